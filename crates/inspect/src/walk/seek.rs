//! Secrets in the files that are walked over.

use std::io::{BufRead, Read as _};

use super::{Fact, Walk};
use crate::archive::{self, HEAD_BYTES, Kind, Spool};
use crate::cataloger::file_name;
use crate::content::Content;

impl Walk<'_> {
    /// Tells the secrets in a file, where they are asked for. What holds other files has them in those.
    pub(super) fn secrets(
        &mut self,
        path: &[u8],
        head: &[u8],
        content: Content<'_>,
        facts: &mut Vec<Fact>,
    ) -> Result<(), archive::Error> {
        let Some(scanner) = self.scanner else { return Ok(()) };
        if archive::kind(file_name(path), head).is_none() {
            facts.extend(scanner.scan_content(path, &content)?.into_iter().map(Fact::Secret));
        }
        Ok(())
    }

    /// Looks at a file that streams by, of which every byte may be part of a secret.
    pub(super) fn look_spooled(
        &mut self,
        path: &[u8],
        mut input: &mut dyn BufRead,
        facts: &mut Vec<Fact>,
    ) -> Result<(), archive::Error> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        (&mut input).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        let kind = archive::kind(file_name(path), &head);
        let mut whole = head.as_slice().chain(input);
        match kind {
            Some(kind) if kind != Kind::Zip => self.unpack(kind, path, &mut whole, facts),
            _ => {
                let spool = Spool::new(whole, self.folder, self.budget)?;
                self.look_at(path, spool.content(), facts)
            }
        }
    }
}
