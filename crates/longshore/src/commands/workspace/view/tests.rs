//! The view by messages and keys, and as it is seen.

use std::collections::BTreeMap;
use std::num::NonZero;

use ::workspace::logs::Line;
use ::workspace::progress::Told;
use api::Micros;
use engine::{LogLine, LogStream};
use proptest::prelude::*;
use ratatui::backend::{CrosstermBackend, TestBackend};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier};
use ratatui::{Terminal, TerminalOptions, Viewport};

use super::draw::{Size, draw};
use super::keys::Key;
use super::model::{Request, Scope, Usage, View};
use super::rows::{From, Service, Snapshot, State};

fn service(name: &str, state: State, from: From, address: Option<&str>) -> Service {
    Service {
        name: name.into(),
        state,
        count: (1, 1),
        develop: from == From::Source,
        from,
        address: address.map(str::to_owned),
        running: vec![format!("id of {name}")],
        detached: false,
    }
}

fn release() -> From {
    From::Release("4f1c09aa".to_owned())
}

fn line(service: &str, text: &str) -> Line {
    let line = LogLine { stream: LogStream::Stdout, at: Micros(0), text: text.to_owned() };
    Line { service: service.to_owned(), slot: 1, line }
}

/// The example app: vote is built, a worker of two containers is half up, a migration ended.
fn shop(columns: usize, rows: usize) -> View {
    let mut view = View::new("shop", "prod");
    view.size = Size { columns, rows };
    view.stands(Snapshot {
        services: vec![
            service("db", State::Healthy, release(), None),
            service("migrate", State::Done, release(), None),
            service("redis", State::Unhealthy, From::Image, None),
            service("result", State::Exited(137), release(), Some("http://result.shop.localhost:8081")),
            service("vote", State::Waiting, From::Source, Some("http://vote.shop.localhost:8080")),
            Service { count: (1, 2), ..service("worker", State::Running, release(), None) },
        ],
        is_ending: false,
    });
    let usage = |cpu_percent, memory_bytes| Usage { cpu_percent, memory_bytes };
    view.takes(BTreeMap::from([
        ("id of db".to_owned(), usage(Some(1.26), 45_600_000)),
        ("id of redis".to_owned(), usage(Some(104.0), 9_800_000)),
        ("id of worker".to_owned(), usage(None, 31_000_000)),
    ]));
    view.told(&Told::Building { service: "vote".to_owned() });
    view.told(&Told::BuildStep { service: "vote".to_owned(), step: "[2/5] RUN pip install flask".to_owned() });
    view.line(&line("db", "database system is ready to accept connections"));
    view.line(&line("redis", "\u{1b}[31mReady\u{1b}[0m to accept connections"));
    view.line(&line("worker", "日本語 is wide, and so is this line, which goes on and on until it needs one row more"));
    view.told(&Told::Failed { service: "result".to_owned(), why: "it ended with status 137\n  killed".to_owned() });
    view.told(&Told::Note("port 8080 was taken".to_owned()));
    view
}

fn buffer(view: &View, colour: bool) -> Buffer {
    let area = |number: usize| u16::try_from(number).unwrap();
    let backend = TestBackend::new(area(view.size.columns), area(view.size.rows));
    let mut terminal = Terminal::new(backend).unwrap();
    terminal.draw(|frame| draw(view, colour, frame.buffer_mut())).unwrap();
    terminal.backend().buffer().clone()
}

/// A terminal that was sent these bytes.
fn terminal(view: &View, bytes: &[u8]) -> vt100::Parser {
    let number = |number: usize| u16::try_from(number).ok().and_then(NonZero::new).unwrap();
    let mut terminal = vt100::Parser::new(number(view.size.rows), number(view.size.columns), 0);
    terminal.process(bytes);
    terminal
}

/// What is seen, row by row.
fn seen(view: &View) -> String {
    let terminal = terminal(view, &sent(view));
    let rows = terminal.screen().rows(0, u16::try_from(view.size.columns).unwrap());
    rows.map(|row| row.trim_end().to_owned() + "\n").collect()
}

/// What is sent to a terminal.
fn sent(view: &View) -> Vec<u8> {
    let number = |number: usize| u16::try_from(number).unwrap();
    let area = Rect::new(0, 0, number(view.size.columns), number(view.size.rows));
    let options = TerminalOptions { viewport: Viewport::Fixed(area) };
    let mut bytes = Vec::new();
    let mut terminal = Terminal::with_options(CrosstermBackend::new(&mut bytes), options).unwrap();
    terminal.draw(|frame| draw(view, true, frame.buffer_mut())).unwrap();
    drop(terminal);
    bytes
}

fn press(view: &mut View, keys: &str) -> Option<Request> {
    keys.chars().map(|char| view.key(if char == '\n' { Key::Enter } else { Key::Char(char) })).last().flatten()
}

#[test]
fn the_screen_at_several_sizes() {
    for (columns, rows) in [(110, 24), (80, 24), (40, 12), (20, 5)] {
        insta::assert_snapshot!(format!("screen_{columns}x{rows}"), seen(&shop(columns, rows)));
    }
}

#[test]
fn the_screen_with_what_is_over_it() {
    let mut view = shop(80, 24);
    press(&mut view, "?");
    insta::assert_snapshot!("help_80x24", seen(&view));
    press(&mut view, "x");
    press(&mut view, "jjjjj\n");
    insta::assert_snapshot!("log_of_one_80x24", seen(&view));
    press(&mut view, "\n/READY");
    insta::assert_snapshot!("filter_80x24", seen(&view));
    view.stands(Snapshot { is_ending: true, ..view.snapshot.clone() });
    press(&mut view, "\nd");
    insta::assert_snapshot!("ending_80x24", seen(&view));
}

#[test]
fn no_size_is_too_small() {
    for columns in 1..30 {
        for rows in 1..14 {
            let mut view = shop(columns, rows);
            for keys in ["", "?", "x\n", "/abc"] {
                press(&mut view, keys);
                view.key(Key::PageUp);
                buffer(&view, true);
            }
        }
    }
}

#[test]
fn without_colour_there_is_none() {
    let mut view = shop(80, 24);
    press(&mut view, "?");
    let cells = buffer(&view, false).content;
    assert!(cells.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    view.is_helping = false;
    let coloured = buffer(&view, true).content;
    assert!(coloured.iter().any(|cell| cell.fg == Color::Red));
    // What is selected is seen without a colour as well.
    assert!(coloured.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED)));
}

#[test]
fn keys_ask_for_what_they_say() {
    let mut view = shop(80, 24);
    assert_eq!(press(&mut view, "j"), None);
    assert_eq!(press(&mut view, "r"), Some(Request::Restart { service: "migrate".to_owned() }));
    assert_eq!(press(&mut view, "d"), Some(Request::Switch { service: "migrate".to_owned(), develop: true }));
    assert_eq!(press(&mut view, "o"), None);
    assert_eq!(view.notice.as_ref().unwrap().text, "migrate has no published port");
    press(&mut view, "jjj");
    assert_eq!(press(&mut view, "d"), Some(Request::Switch { service: "vote".to_owned(), develop: false }));
    assert_eq!(press(&mut view, "o"), Some(Request::Open { url: "http://vote.shop.localhost:8080".to_owned() }));
    assert_eq!(press(&mut view, "/qd"), None);
    assert_eq!(view.key(Key::Ctrl('c')), Some(Request::Stop));
    view.key(Key::Escape);
    assert_eq!(view.filter, "");
    assert_eq!(press(&mut view, "q"), Some(Request::Stop));
    view.stands(Snapshot { is_ending: true, ..view.snapshot.clone() });
    assert_eq!(press(&mut view, "r"), None);
    assert_eq!(press(&mut view, "q"), Some(Request::Stop));
}

#[test]
fn the_selection_stays_with_its_service() {
    let mut view = shop(80, 24);
    press(&mut view, "jjj");
    let mut fewer = view.snapshot.clone();
    fewer.services.remove(0);
    view.stands(fewer);
    assert_eq!(&*view.selected().unwrap().name, "result");
    view.stands(Snapshot::default());
    assert!(view.selected().is_none());
    assert_eq!(press(&mut view, "jkdro\n"), None);
}

#[test]
fn lines_that_are_left_out_are_seen_with_their_service() {
    let mut view = shop(80, 24);
    view.snapshot.services[0].detached = true;
    let texts = |view: &View| view.window().rows.iter().map(|row| row.text.to_owned()).collect::<Vec<_>>();
    assert!(!texts(&view).iter().any(|text| text.contains("database system")));
    press(&mut view, "\n");
    assert_eq!(view.scope, Scope::Selected);
    assert_eq!(texts(&view), ["database system is ready to accept connections"]);
}

#[test]
fn what_failed_is_known_until_it_is_mended() {
    let mut view = shop(80, 24);
    assert_eq!(view.failures.keys().collect::<Vec<_>>(), ["result"]);
    view.told(&Told::Ready { service: "result".to_owned() });
    assert!(view.failures.is_empty());
    view.told(&Told::Engine { up: false, why: "gone".to_owned() });
    assert!(seen(&view).contains("the engine is away"));
    view.told(&Told::Engine { up: true, why: String::new() });
    assert!(!seen(&view).lines().next().unwrap().contains("away"));
}

proptest! {
    /// Whatever services write, all that is around it is seen as before, and nothing but cells was drawn.
    #[test]
    fn a_line_cannot_steer_the_terminal(text in "([\\x00-\\x9f]|\\x1b[\\[\\]P(]?[0-9;?]{0,4}[a-zA-Z]?|[a-z]|日|\u{202e}){0,80}") {
        let mut view = shop(80, 24);
        let before = seen(&view);
        for service in ["db", "redis"] {
            view.line(&line(service, &text));
        }
        view.told(&Told::BuildLog { service: "vote".to_owned(), text });
        let after = seen(&view);
        // The title, the table, the heading of the log; and the keys.
        prop_assert!(before.lines().take(9).eq(after.lines().take(9)), "{after}");
        prop_assert_eq!(before.lines().last(), after.lines().last());
        // Of all sequences only those that move to a cell and choose how it looks.
        let text = String::from_utf8(sent(&view)).unwrap();
        for sequence in text.split('\u{1b}').skip(1) {
            let end = sequence.find(|char: char| char.is_ascii_alphabetic()).unwrap_or(0);
            let draws = sequence.starts_with('[') && matches!(sequence.as_bytes()[end], b'H' | b'm');
            let is_cursor = sequence.starts_with("[?25");
            prop_assert!(draws || is_cursor, "{sequence:?}");
        }
    }
}
