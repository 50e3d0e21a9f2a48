//! Streams over HTTP as JSON lines: each line is an item, or the problem that ended the stream.

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Problem, Result};

/// The media type of JSON lines.
pub const MEDIA_TYPE: &str = "application/x-ndjson";
/// The longest line that is read, in bytes.
pub const LINE_BYTES_MAX: usize = 256 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<T> {
    Item(T),
    Problem(Problem),
}

/// Writes a stream as JSON lines.
pub fn encode<T>(items: impl Stream<Item = Result<T>> + Send + 'static) -> impl Stream<Item = Bytes> + Send + 'static
where
    T: Serialize + Send + 'static,
{
    items.map(|item| {
        let line = match item {
            Ok(item) => Line::Item(item),
            Err(problem) => Line::Problem(problem),
        };
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Bytes::from(text)
    })
}

/// Reads JSON lines. The stream ends after the first problem, whether it was sent or met.
pub fn decode<T, E>(
    body: impl Stream<Item = std::result::Result<Bytes, E>> + Send + 'static,
) -> BoxStream<'static, Result<T>>
where
    T: DeserializeOwned + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    struct State<S> {
        body: S,
        buffer: BytesMut,
        ended: bool,
    }
    let state = State { body: Box::pin(body), buffer: BytesMut::new(), ended: false };
    stream::unfold(state, |mut state| async move {
        if state.ended {
            return None;
        }
        loop {
            if let Some(end) = state.buffer.iter().position(|byte| *byte == b'\n') {
                let line = state.buffer.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let item = match serde_json::from_slice::<Line<T>>(&line) {
                    Ok(Line::Item(item)) => Ok(item),
                    Ok(Line::Problem(problem)) => Err(problem),
                    Err(error) => Err(broken(&format!("a line could not be read: {error}"))),
                };
                state.ended = item.is_err();
                return Some((item, state));
            }
            if state.buffer.len() > LINE_BYTES_MAX {
                state.ended = true;
                return Some((Err(broken("a line is longer than 256 KiB")), state));
            }
            match state.body.next().await {
                Some(Ok(chunk)) => state.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => {
                    state.ended = true;
                    return Some((Err(broken(&error.to_string())), state));
                }
                None if state.buffer.is_empty() => return None,
                None => state.buffer.extend_from_slice(b"\n"),
            }
        }
    })
    .boxed()
}

fn broken(what: &str) -> Problem {
    Problem::new(502, "stream-broken", "The stream from the hub broke off")
        .detail(what)
        .hint("Ask again; nothing was lost.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_survive_any_cut(items in prop::collection::vec(".{0,40}", 0..20), cut in 1usize..16) {
            let sent: Vec<Bytes> =
                futures::executor::block_on(encode(stream::iter(items.clone().into_iter().map(Ok::<_, Problem>))).collect());
            let whole: Vec<u8> = sent.concat();
            let pieces: Vec<std::result::Result<Bytes, String>> =
                whole.chunks(cut).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            let got: Vec<String> =
                futures::executor::block_on(decode::<String, String>(stream::iter(pieces)).map(|item| item.unwrap()).collect());
            prop_assert_eq!(got, items);
        }
    }

    #[test]
    fn a_problem_ends_the_stream() {
        let problem = Problem::new(404, "run-unknown", "No such run").detail("x");
        let lines = encode(stream::iter(vec![Ok("a".to_owned()), Err(problem.clone()), Ok("b".to_owned())]));
        let got: Vec<Result<String>> = futures::executor::block_on(decode::<String, String>(lines.map(Ok)).collect());
        assert_eq!(got.len(), 2);
        assert_eq!(got[1].as_ref().unwrap_err().kind, "run-unknown");
    }
}
