//! What was used once and can be used again: to make a decompressor or a large buffer anew costs more than a small file.

use std::cell::RefCell;

use super::decompress::Inflate;

/// How many of each are kept: as many as are in use at a time in nearly all archives.
const KEPT_MAX: usize = 4;

/// Kept from one use to the next. Each layer has its own, as it has its own budget.
#[derive(Default)]
pub(super) struct Spare {
    #[expect(clippy::vec_box, reason = "they come and go in their boxes")]
    inflates: RefCell<Vec<Box<Inflate>>>,
    buffers: RefCell<Vec<Vec<u8>>>,
}

impl Spare {
    /// One that is at the start of a stream.
    pub(super) fn inflate(&self) -> Box<Inflate> {
        match self.inflates.borrow_mut().pop() {
            Some(mut inflate) => {
                inflate.reset();
                inflate
            }
            None => Box::default(),
        }
    }

    pub(super) fn keep_inflate(&self, inflate: Box<Inflate>) {
        let mut kept = self.inflates.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push(inflate);
        }
    }

    /// One with anything in it.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.buffers.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn keep_buffer(&self, buffer: Vec<u8>) {
        let mut kept = self.buffers.borrow_mut();
        if buffer.capacity() > 0 && kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    }
}

impl std::fmt::Debug for Spare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Spare")
    }
}
