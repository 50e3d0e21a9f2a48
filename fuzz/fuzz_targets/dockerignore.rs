//! Any `.dockerignore` is read or refused, and a matcher that remembers folders says what a new one says.
#![no_main]

use engine::build::Ignore;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, Vec<&str>)| {
    let (text, paths) = input;
    match Ignore::parse(text) {
        Ok(ignore) => {
            let mut matcher = ignore.matcher();
            for path in paths {
                let ignored = matcher.is_ignored(path);
                assert_eq!(ignored, ignore.matcher().is_ignored(path));
                // Only a pattern that keeps can bring back what is in a folder that is left out.
                if let Some((folder, _)) = path.rsplit_once('/')
                    && !text.contains('!')
                {
                    assert!(ignored || !matcher.is_ignored(folder));
                }
            }
        }
        Err(error) => assert!((1..=text.lines().count()).contains(&error.line) && !error.what.is_empty()),
    }
});
