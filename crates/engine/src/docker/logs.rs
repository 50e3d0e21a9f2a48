//! What containers write, as lines. The engine sends frames of one stream each; a line longer than 16 KiB comes in several
//! frames, of which only the last ends with a line end.

use base::clock::Micros;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures::stream::{self, BoxStream, StreamExt};

use super::{Connection, containers, failed};
use crate::{EngineError, ErrorKind, LogLine, LogOptions, LogStream};

/// A line that is longer is cut into several: one without an end must not fill the memory.
const LINE_BYTES_MAX: usize = 1024 * 1024;

pub(super) async fn logs(
    docker: &Connection,
    container: &str,
    options: LogOptions,
) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError> {
    let what = format!("cannot read the log of container {container}");
    // The stream below would tell only when it is read, and by then the caller has sent a head of its own.
    if containers::inspect(docker, container).await?.is_none() {
        return Err(EngineError::new(ErrorKind::NotFound, what, "there is no such container"));
    }
    let mut query = LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true).follow(options.follow);
    if let Some(lines) = options.tail_lines {
        query = query.tail(&lines.to_string());
    }
    if let Some(since) = options.since {
        // The engine takes whole seconds here; what is earlier in that second is left out below.
        query = query.since(i32::try_from(since.seconds()).unwrap_or(i32::MAX));
    }
    let frames = docker.client.logs(container, Some(query.build()));
    let earliest = options.since;
    let mut assembler = LineAssembler::default();
    let lines = frames
        .map(Some)
        .chain(stream::once(async { None }))
        .map(move |frame| match frame {
            Some(Ok(LogOutput::StdErr { message })) => {
                assembler.push(LogStream::Stderr, &message).into_iter().map(Ok).collect()
            }
            Some(Ok(LogOutput::StdOut { message } | LogOutput::Console { message })) => {
                assembler.push(LogStream::Stdout, &message).into_iter().map(Ok).collect()
            }
            Some(Ok(LogOutput::StdIn { .. })) => Vec::new(),
            Some(Err(error)) => vec![Err(failed(&what, error))],
            None => assembler.finish().into_iter().map(Ok).collect(),
        })
        .flat_map(stream::iter)
        .filter(move |line| {
            let late_enough = match (line, earliest) {
                (Ok(line), Some(earliest)) => line.at >= earliest,
                _ => true,
            };
            async move { late_enough }
        });
    Ok(lines.boxed())
}

/// Puts the frames of both streams together to lines.
#[derive(Debug, Default)]
struct LineAssembler {
    stdout: Partial,
    stderr: Partial,
}

#[derive(Debug, Default)]
struct Partial {
    at: Option<Micros>,
    bytes: Vec<u8>,
}

impl LineAssembler {
    fn push(&mut self, stream: LogStream, frame: &[u8]) -> Option<LogLine> {
        let partial = match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        };
        let (at, text) = timestamp_split(frame);
        partial.at = partial.at.or(at);
        partial.bytes.extend_from_slice(text);
        let whole = partial.bytes.last() == Some(&b'\n');
        (whole || partial.bytes.len() > LINE_BYTES_MAX).then(|| partial.take(stream))
    }

    fn finish(&mut self) -> Vec<LogLine> {
        [(LogStream::Stdout, &mut self.stdout), (LogStream::Stderr, &mut self.stderr)]
            .into_iter()
            .filter(|(_, partial)| !partial.bytes.is_empty())
            .map(|(stream, partial)| partial.take(stream))
            .collect()
    }
}

impl Partial {
    fn take(&mut self, stream: LogStream) -> LogLine {
        let bytes = std::mem::take(&mut self.bytes);
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        LogLine { stream, at: self.at.take().unwrap_or_default(), text: String::from_utf8_lossy(line).into_owned() }
    }
}

/// Every frame begins with the time, in RFC 3339 with nanoseconds, and a space.
fn timestamp_split(frame: &[u8]) -> (Option<Micros>, &[u8]) {
    let Some(space) = frame.iter().take(40).position(|byte| *byte == b' ') else {
        return (None, frame);
    };
    match std::str::from_utf8(&frame[..space]).ok().and_then(containers::time_of) {
        Some(at) => (Some(at), &frame[space + 1..]),
        None => (None, frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_become_lines() {
        let mut assembler = LineAssembler::default();
        let time = "2026-01-01T00:00:00.000000001Z";
        assert!(assembler.push(LogStream::Stdout, format!("{time} one ").as_bytes()).is_none());
        let other = assembler.push(LogStream::Stderr, format!("{time} other\r\n").as_bytes()).unwrap();
        assert_eq!((other.stream, other.text.as_str()), (LogStream::Stderr, "other"));
        let line = assembler.push(LogStream::Stdout, b"2026-01-01T00:00:01Z line\n").unwrap();
        assert_eq!(line.text, "one line", "the pieces of a long line are one line, at the first one's time");
        assert_eq!(line.at, Micros::parse("2026-01-01T00:00:00Z").unwrap());
        assert!(assembler.push(LogStream::Stdout, b"no time at all").is_none());
        assert_eq!(assembler.finish().len(), 1);
        assert!(assembler.finish().is_empty());
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut assembler = LineAssembler::default();
        let frame = vec![b'x'; 16 * 1024];
        let lines: Vec<LogLine> = (0..70).filter_map(|_| assembler.push(LogStream::Stdout, &frame)).collect();
        assert_eq!(lines.len(), 1);
    }
}
