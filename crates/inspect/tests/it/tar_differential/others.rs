//! GNU tar and Python's tarfile, asked about many archives at once.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::{Listed, Verdict, trimmed};

/// The other readers, and a folder for the archives.
pub(crate) struct Others {
    folder: tempfile::TempDir,
    python: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Drop for Others {
    fn drop(&mut self) {
        let _ = self.python.kill();
        let _ = self.python.wait();
    }
}

impl Others {
    pub(crate) fn start() -> Self {
        let version = Command::new("tar").arg("--version").output().expect("install GNU tar (Debian package tar)");
        assert!(version.stdout.starts_with(b"tar (GNU tar)"), "tar is not GNU tar; install Debian's package tar");
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("list.py");
        std::fs::write(&script, include_str!("list.py")).unwrap();
        let mut python = Command::new("python3")
            .arg("-u")
            .arg(script)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("install Python 3 (Debian package python3)");
        let answers = BufReader::new(python.stdout.take().unwrap());
        Self { folder, python, answers }
    }

    /// What GNU tar and Python say of each archive.
    pub(crate) fn list<'a>(&mut self, archives: impl Iterator<Item = &'a [u8]>) -> Vec<(Verdict, Verdict)> {
        let folder = self.folder.path().to_owned();
        let mut count = 0;
        for (at, bytes) in archives.enumerate() {
            std::fs::write(folder.join(format!("{at}.tar")), bytes).unwrap();
            count += 1;
        }
        let mut names = self.python.stdin.take().unwrap();
        let writer = std::thread::spawn({
            let folder = folder.clone();
            move || {
                for at in 0..count {
                    writeln!(names, "{}", folder.join(format!("{at}.tar")).display()).unwrap();
                }
                names
            }
        });
        let script = format!(
            "i=0; while [ $i -lt {count} ]; do \
             tar -tvPf $i.tar --utc --full-time --numeric-owner --quoting-style=c >$i.out 2>$i.err; echo $?; \
             i=$((i+1)); done"
        );
        let tar = Command::new("sh")
            .args(["-c", &script])
            .current_dir(&folder)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TAR_OPTIONS")
            .stdout(Stdio::piped())
            .spawn()
            .expect("install a shell (Debian package dash)");
        let python: Vec<Verdict> = (0..count).map(|_| self.python_verdict()).collect();
        self.python.stdin = Some(writer.join().unwrap());
        let codes = String::from_utf8(tar.wait_with_output().unwrap().stdout).unwrap();
        let codes: Vec<&str> = codes.lines().collect();
        assert_eq!(codes.len(), count);
        let tar = codes.iter().enumerate().map(|(at, code)| {
            let read = |kind: &str| std::fs::read(folder.join(format!("{at}.{kind}"))).unwrap();
            let warnings = String::from_utf8_lossy(&read("err")).into_owned();
            let entries =
                read("out").split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(tar_line).collect();
            Verdict { entries, error: (*code != "0").then(|| format!("exit code {code}: {warnings}")), warnings }
        });
        tar.zip(python).collect()
    }

    fn python_verdict(&mut self) -> Verdict {
        let mut verdict = Verdict::default();
        loop {
            let mut line = String::new();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "python3 has ended");
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            match words.as_slice() {
                ["ok"] => return verdict,
                ["error", ..] => {
                    verdict.error = Some(line);
                    return verdict;
                }
                ["e", name, kind, size, link, mode, uid, gid, mtime, exact] => verdict.entries.push(Listed {
                    name: trimmed(&hex(name.trim_end_matches('.'))),
                    kind: kind.chars().next().unwrap(),
                    size: (*size).to_owned(),
                    link: hex(link.trim_end_matches('.')),
                    mode: u32::from_str_radix(mode, 8).unwrap(),
                    uid: uid.parse().unwrap_or(i64::MIN),
                    gid: gid.parse().unwrap_or(i64::MIN),
                    mtime: (*exact == "1").then(|| mtime.parse().unwrap_or(i64::MIN)),
                }),
                _ => panic!("unexpected answer {line:?}"),
            }
        }
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

/// A warning without what is in quotes and without numbers, so that equal ones can be counted.
pub(crate) fn without_names(line: &str) -> String {
    let mut parts = line.split(['\'', '"', '\u{2018}', '\u{2019}']);
    let text: String = parts.by_ref().step_by(2).collect::<Vec<_>>().join("…");
    text.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

/// `-rw-r--r-- 0/0               12 2020-09-13 12:26:40 "name" -> "target"`
fn tar_line(line: &[u8]) -> Listed {
    let shown = || String::from_utf8_lossy(line).into_owned();
    let quote = line.iter().position(|byte| *byte == b'"').unwrap_or_else(|| panic!("no name in {}", shown()));
    let head = std::str::from_utf8(&line[..quote]).unwrap();
    let (name, rest) = unquote(&line[quote..]);
    let second = rest.iter().position(|byte| *byte == b'"');
    let link = second.map(|at| unquote(&rest[at..]).0).unwrap_or_default();
    let words: Vec<&str> = head.split_ascii_whitespace().collect();
    let (uid, gid) = words[1].split_once('/').unwrap();
    let kind = match head.as_bytes()[0] {
        b'-' | b'C' => 'f',
        kind @ (b'h' | b'l' | b'c' | b'b' | b'd' | b'p') => char::from(kind),
        _ => '?',
    };
    let is_unknown = second.is_none() && rest.starts_with(b" unknown");
    Listed {
        name: trimmed(&name),
        kind: if is_unknown { '?' } else { kind },
        size: words[2].to_owned(),
        link: if matches!(kind, 'h' | 'l') { link } else { Vec::new() },
        mode: mode(&words[0].as_bytes()[1..]),
        uid: uid.parse().unwrap(),
        gid: gid.parse().unwrap(),
        mtime: words.get(3).zip(words.get(4)).and_then(|(date, time)| seconds(date, time)),
    }
}

/// `rwsr-xr-t` as a number.
fn mode(text: &[u8]) -> u32 {
    let mut mode = 0;
    for (at, letter) in text.iter().take(9).enumerate() {
        let bit = 0o400 >> at;
        let special = [0o4000, 0o2000, 0o1000][at / 3];
        mode |= match letter {
            b'-' => 0,
            b's' | b't' => bit | special,
            b'S' | b'T' => special,
            _ => bit,
        };
    }
    mode
}

/// The text in quotes at the start, and what follows it.
fn unquote(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut name = Vec::new();
    let mut at = 1;
    loop {
        match text[at] {
            b'"' => return (name, &text[at + 1..]),
            b'\\' => {
                at += 1;
                let digits = text[at..].iter().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
                if digits == 3 {
                    let digits = std::str::from_utf8(&text[at..at + 3]).unwrap();
                    name.push(u8::from_str_radix(digits, 8).unwrap());
                    at += 3;
                    continue;
                }
                name.push(match text[at] {
                    b'a' => 7,
                    b'b' => 8,
                    b't' => 9,
                    b'n' => 10,
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => 13,
                    other => other,
                });
                at += 1;
            }
            byte => {
                name.push(byte);
                at += 1;
            }
        }
    }
}

/// Seconds since 1970 of a date and time in UTC; `None` where there is a fraction or the year is not one of four digits.
fn seconds(date: &str, time: &str) -> Option<i64> {
    let date: Vec<i64> = date.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let time: Vec<i64> = time.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let ([year, month, day], [hours, minutes, seconds]) = (date.as_slice(), time.as_slice()) else { return None };
    // Days from the civil calendar, counted in years that begin in March.
    let (year, month) = if *month > 2 { (*year, month - 3) } else { (year - 1, month + 9) };
    let days =
        year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (month * 153 + 2) / 5 + day
            - 1
            - 719_468;
    Some(days * 86_400 + hours * 3_600 + minutes * 60 + seconds)
}
