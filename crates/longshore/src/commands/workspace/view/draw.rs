//! The view as cells: a line about the workspace, a table of services, lines of the log, a line of keys.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr as _;

use super::log::{Entry, Row, Writer};
use super::model::{Activity, Scope, View};
use super::rows::{From, Service, State};
use super::text::fit;
use crate::output;

/// Colours of services, by their place in the table; red is for what went wrong.
const COLOURS: [Color; 10] = [
    Color::Cyan,
    Color::Yellow,
    Color::Green,
    Color::Magenta,
    Color::Blue,
    Color::LightCyan,
    Color::LightYellow,
    Color::LightGreen,
    Color::LightMagenta,
    Color::LightBlue,
];
/// Rows that are neither of a service nor of the log: the title, two headings, the keys.
const ROWS_FIXED: usize = 4;
/// The widest name of a service; longer ones are cut.
const NAME_COLUMNS_MAX: usize = 24;
/// Columns between two cells of the table.
const GAP_COLUMNS: usize = 2;
/// Columns of the rule before and after the words of the log's heading.
const RULE_COLUMNS: usize = 2;

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// What all keys do.
const HELP: [(&str, &str); 12] = [
    ("↑ ↓, k j", "select a service"),
    ("Enter, l", "only its log, or all again"),
    ("d", "from source, or its release again"),
    ("r", "start it anew"),
    ("o", "open its address, or copy it"),
    ("/", "only lines with a text; Esc: all"),
    ("PgUp PgDn", "scroll the log"),
    ("Home", "its first line"),
    ("End", "its last line, and follow"),
    ("Ctrl-L", "draw anew"),
    ("Ctrl-Z", "suspend"),
    ("q, Ctrl-C", "stop everything; again: at once"),
];

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Service,
    State,
    From,
    Cpu,
    Memory,
    Address,
    /// The port alone, where the whole address is too wide.
    Port,
}

/// Columns of the table: the first of these that fit are shown.
const LAYOUTS: [&[Column]; 6] = [
    &[Column::Service, Column::State, Column::From, Column::Cpu, Column::Memory, Column::Address],
    &[Column::Service, Column::State, Column::From, Column::Cpu, Column::Memory, Column::Port],
    &[Column::Service, Column::State, Column::Cpu, Column::Memory, Column::Port],
    &[Column::Service, Column::State, Column::Cpu, Column::Memory],
    &[Column::Service, Column::State, Column::Cpu],
    &[Column::Service, Column::State],
];

impl Column {
    /// Its heading, and how wide it is at least: what changes all the time moves nothing.
    fn heading(self) -> (&'static str, usize) {
        match self {
            Self::Service => ("SERVICE", 0),
            Self::State => ("STATE", 10),
            Self::From => ("FROM", 0),
            Self::Cpu => ("CPU", 5),
            Self::Memory => ("MEMORY", 8),
            Self::Address => ("ADDRESS", 0),
            Self::Port => ("PORT", 0),
        }
    }

    /// Numbers end below one another.
    fn is_number(self) -> bool {
        matches!(self, Self::Cpu | Self::Memory)
    }
}

/// Colours, or none.
#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn fg(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    /// Of less weight than the rest.
    fn faint(self) -> Style {
        self.fg(Color::DarkGray)
    }

    fn service(self, view: &View, name: &str) -> Style {
        let place = view.snapshot.services.iter().position(|service| &*service.name == name);
        place.map_or(Style::new(), |place| self.fg(COLOURS[place % COLOURS.len()]))
    }
}

/// Rows of services that are seen.
fn table_rows(view: &View) -> usize {
    let free = view.size.rows.saturating_sub(ROWS_FIXED);
    view.snapshot.services.len().min((free / 2).max(1)).min(free)
}

/// Columns and rows of the log's text.
pub(super) fn log_size(view: &View) -> (usize, usize) {
    let rows = view.size.rows.saturating_sub(ROWS_FIXED + table_rows(view));
    (view.size.columns.saturating_sub(prefix_columns(view)).max(1), rows)
}

/// Columns before a line of the log, with what parts them from it.
fn prefix_columns(view: &View) -> usize {
    match view.scope {
        Scope::All => name_columns(view) + 3,
        Scope::Selected => 0,
    }
}

fn name_columns(view: &View) -> usize {
    let of_one = |service: &Service| service.name.width() + if service.count.1 > 1 { 2 } else { 0 };
    let widest = view.snapshot.services.iter().map(of_one).max().unwrap_or_default();
    widest.min(NAME_COLUMNS_MAX).min(view.size.columns / 4)
}

/// Draws the view, in colours or without.
pub(super) fn draw(view: &View, colour: bool, buffer: &mut Buffer) {
    let paint = Paint { colour };
    let mut page = Page { buffer, row: 0 };
    page.line(title(view, paint));
    table(view, paint, &mut page);
    let window = view.window();
    page.line(log_title(view, paint, window.is_more_below));
    let bottom = usize::from(page.buffer.area.height).saturating_sub(1);
    for row in &window.rows {
        page.line(log_row(view, paint, row));
    }
    page.row = bottom.max(page.row);
    page.line(keys(view, paint));
    if view.is_helping {
        help(paint, page.buffer);
    }
}

/// Rows from top to bottom.
struct Page<'a> {
    buffer: &'a mut Buffer,
    row: usize,
}

impl Page<'_> {
    fn line(&mut self, line: Line<'_>) {
        let area = self.buffer.area;
        if self.row < usize::from(area.height) {
            let row = area.y + u16::try_from(self.row).unwrap_or(u16::MAX);
            self.buffer.set_line(area.x, row, &line, area.width);
        }
        self.row += 1;
    }
}

/// Two parts at both ends of a row; the left one is cut where they do not fit.
fn ends<'a>(columns: usize, left: (String, Style), right: (String, Style), fill: char, rule: Style) -> Line<'a> {
    let right_columns = right.0.width();
    let left_text = fit(&left.0, columns.saturating_sub(right_columns + 1));
    let free = columns.saturating_sub(left_text.width() + right_columns);
    let between = fill.to_string().repeat(free);
    Line::from(vec![Span::styled(left_text, left.1), Span::styled(between, rule), Span::styled(right.0, right.1)])
}

fn title(view: &View, paint: Paint) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let services = &view.snapshot.services;
    let right = if view.engine_away.is_some() {
        ("the engine is away ".to_owned(), paint.fg(Color::Red).add_modifier(Modifier::BOLD))
    } else if view.snapshot.is_ending {
        ("stopping … ".to_owned(), paint.fg(Color::Yellow).add_modifier(Modifier::BOLD))
    } else {
        let usages = services.iter().filter_map(|service| view.usage(service));
        let sum =
            usages.fold((0.0, 0), |sum, usage| (sum.0 + usage.cpu_percent.unwrap_or(0.0), sum.1 + usage.memory_bytes));
        let up = format!("{} of {} up", view.up_count(), services.len());
        let takes = format!(" · {} · {} ", percent(sum.0), output::bytes(sum.1));
        let is_wide = view.size.columns >= 60 && sum.1 > 0;
        (if is_wide { up + &takes } else { up + " " }, Style::new())
    };
    ends(view.size.columns, (format!(" {} · {}", view.workspace, view.env), bold), right, ' ', Style::new())
}

fn table(view: &View, paint: Paint, page: &mut Page<'_>) {
    let services = &view.snapshot.services;
    let layout = layout(view);
    let heading = |column: Column| (column.heading().0.to_owned(), paint.faint());
    page.line(row(" ", &layout, heading, view.size.columns, Style::new()));
    let rows = table_rows(view);
    // The selected one is in the middle, as far as there are services above and below.
    let first = view.selected.saturating_sub(rows / 2).min(services.len().saturating_sub(rows));
    for (index, service) in services.iter().enumerate().skip(first).take(rows) {
        let is_selected = index == view.selected;
        let styled = |column: Column| {
            let style = match column {
                _ if is_selected => Style::new(),
                Column::Service => paint.service(view, &service.name),
                Column::State => paint.fg(state_colour(view, service)),
                _ => Style::new(),
            };
            (cell(view, service, column), style)
        };
        let style = if is_selected { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        let mark = if is_selected { "▸" } else { " " };
        page.line(row(mark, &layout, styled, view.size.columns, style));
    }
}

/// Columns that fit, with their widths.
fn layout(view: &View) -> Vec<(Column, usize)> {
    let width = |column: Column| {
        let (heading, least) = column.heading();
        let cells = view.snapshot.services.iter().map(|service| cell(view, service, column).width());
        let widest = cells.chain([heading.width(), least]).max().unwrap_or(0);
        if column == Column::Service { widest.min(NAME_COLUMNS_MAX) } else { widest }
    };
    let mut layout = Vec::new();
    for columns in LAYOUTS {
        layout = columns.iter().map(|column| (*column, width(*column))).collect();
        let widths: usize = layout.iter().map(|(_, width)| width + GAP_COLUMNS).sum();
        if widths < view.size.columns + GAP_COLUMNS {
            break;
        }
    }
    layout
}

fn row<'a>(
    mark: &'static str,
    layout: &[(Column, usize)],
    cell: impl Fn(Column) -> (String, Style),
    columns: usize,
    style: Style,
) -> Line<'a> {
    let mut spans = vec![Span::styled(mark, style)];
    for (column, width) in layout {
        let (text, own) = cell(*column);
        let text = fit(&text, *width);
        let pad = " ".repeat(width - text.width());
        let padded = if column.is_number() { pad + &text } else { text + &pad };
        spans.push(Span::styled(padded, style.patch(own)));
        spans.push(Span::styled(" ".repeat(GAP_COLUMNS), style));
    }
    spans.push(Span::styled(" ".repeat(columns), style));
    Line::from(spans)
}

fn cell(view: &View, service: &Service, column: Column) -> String {
    let usage = || view.usage(service);
    match column {
        Column::Service => service.name.to_string(),
        Column::State => state(view, service),
        Column::From => match &service.from {
            From::Release(id) => id.clone(),
            From::Source => "from source".to_owned(),
            From::Image => "its image".to_owned(),
        },
        Column::Cpu => usage().and_then(|usage| usage.cpu_percent).map_or_else(String::new, percent),
        Column::Memory => usage().map_or_else(String::new, |usage| output::bytes(usage.memory_bytes)),
        Column::Address => service.address.clone().unwrap_or_default(),
        Column::Port => service.address.as_deref().and_then(port).unwrap_or_default(),
    }
}

fn port(address: &str) -> Option<String> {
    address.rsplit_once(':').map(|(_, port)| format!(":{port}"))
}

fn percent(value: f64) -> String {
    if value < 9.95 { format!("{value:.1} %") } else { format!("{value:.0} %") }
}

fn state(view: &View, service: &Service) -> String {
    match view.activities.get(&*service.name) {
        Some(Activity::Pulling(done, total)) if *total > 0 => return format!("pulling {} %", done * 100 / total),
        Some(Activity::Pulling(..)) => return "pulling".to_owned(),
        Some(Activity::Building(step)) => return format!("building {step}").trim_end().to_owned(),
        Some(Activity::Filling) => return "filling".to_owned(),
        None => {}
    }
    let word = match service.state {
        State::Waiting => "waiting",
        State::Starting => "starting",
        State::Running => "running",
        State::Healthy => "healthy",
        State::Unhealthy => "unhealthy",
        State::Restarting => "restarting",
        State::Paused => "paused",
        State::Done => "done",
        State::Exited(code) => return format!("exited ({code})"),
        State::Failed => "failed",
        State::Stopping => "stopping",
        State::Stopped => "stopped",
    };
    let is_counted = matches!(service.state, State::Running | State::Healthy | State::Starting | State::Unhealthy);
    match service.count {
        (number, of) if of > 1 && is_counted => format!("{word} {number}/{of}"),
        _ => word.to_owned(),
    }
}

fn state_colour(view: &View, service: &Service) -> Color {
    if view.activities.contains_key(&*service.name) {
        return Color::Yellow;
    }
    match service.state {
        State::Running | State::Healthy => Color::Green,
        State::Waiting | State::Starting | State::Restarting | State::Paused | State::Stopping => Color::Yellow,
        State::Unhealthy | State::Exited(_) | State::Failed => Color::Red,
        State::Done | State::Stopped => Color::DarkGray,
    }
}

/// What is seen of the log, and the selected service's address where the table has no room for it.
fn log_title(view: &View, paint: Paint, is_more_below: bool) -> Line<'static> {
    let mut words = match (&view.scope, view.selected()) {
        (Scope::Selected, Some(service)) => format!("log of {}", service.name),
        _ => "log".to_owned(),
    };
    if !view.filter.is_empty() {
        words += &format!(" with “{}”", view.filter);
    }
    if is_more_below {
        words += ", End follows";
    }
    let is_in_table = layout(view).iter().any(|(column, _)| *column == Column::Address);
    let address = view.selected().and_then(|service| service.address.as_ref()).filter(|_| !is_in_table);
    let words = format!(" {words} ");
    let columns = view.size.columns.saturating_sub(RULE_COLUMNS);
    let fits = |address: &String| words.width() + address.width() < columns;
    let forms = address.map(|address| [format!(" {address} "), format!(" {} ", port(address).unwrap_or_default())]);
    let right = forms.into_iter().flatten().find(fits).unwrap_or_default();
    let style = if is_more_below { paint.fg(Color::Yellow) } else { Style::new() };
    let mut line = ends(columns, (words, style), (right, Style::new()), '─', paint.faint());
    line.spans.insert(0, Span::styled("─", paint.faint()));
    line.spans.push(Span::styled("─", paint.faint()));
    line
}

fn log_row<'a>(view: &View, paint: Paint, row: &Row<'a>) -> Line<'a> {
    let text_style = match row.entry.writer {
        Writer::Container(..) => Style::new(),
        Writer::About(_) | Writer::Longshore => Style::new().add_modifier(Modifier::ITALIC),
    };
    let text = Span::styled(row.text, text_style);
    if view.scope == Scope::Selected {
        return Line::from(text);
    }
    let columns = name_columns(view);
    let name = if row.is_first { fit(&name(row.entry), columns) } else { String::new() };
    let pad = " ".repeat(columns - name.width());
    let style = row.entry.writer.service().map_or(Style::new(), |service| paint.service(view, service));
    Line::from(vec![Span::styled(name + &pad, style), Span::styled(" │ ", paint.faint()), text])
}

fn name(entry: &Entry) -> String {
    match &entry.writer {
        Writer::Container(service, 1) | Writer::About(service) => service.to_string(),
        Writer::Container(service, slot) => format!("{service}-{slot}"),
        Writer::Longshore => String::new(),
    }
}

fn keys(view: &View, paint: Paint) -> Line<'static> {
    if view.is_filtering {
        return Line::from(vec![
            Span::raw(" /"),
            Span::raw(view.filter.clone()),
            Span::styled(" ", Style::new().add_modifier(Modifier::REVERSED)),
        ]);
    }
    if let Some(notice) = &view.notice {
        let style = if notice.is_bad { paint.fg(Color::Red) } else { Style::new() };
        let style = style.add_modifier(Modifier::BOLD);
        return Line::from(Span::styled(fit(&format!(" {}", notice.text), view.size.columns), style));
    }
    let texts = [
        " q stop  ? keys  ↑↓ select  Enter its log  / filter  d source or release  r restart  o open  PgUp PgDn scroll",
        " q stop  ? keys  ↑↓ select  Enter its log  / filter  d source  r restart  o open",
        " q stop  ? keys  ↑↓ select  Enter its log  / filter",
        " q stop  ? keys  Enter its log",
        " q stop  ? keys",
    ];
    let text = texts.iter().find(|text| text.width() <= view.size.columns).copied().unwrap_or_default();
    Line::from(Span::styled(text, paint.faint()))
}

/// What all keys do, in the middle.
fn help(paint: Paint, buffer: &mut Buffer) {
    let keys = HELP.iter().map(|(key, _)| key.width()).max().unwrap_or(0);
    let texts = HELP.iter().map(|(_, text)| text.width()).max().unwrap_or(0);
    let area = buffer.area;
    let fits = |wanted: usize, there: u16| u16::try_from(wanted).unwrap_or(u16::MAX).min(there);
    let (width, height) = (fits(keys + texts + 6, area.width), fits(HELP.len() + 2, area.height));
    let (x, y) = (area.x + (area.width - width) / 2, area.y + (area.height - height) / 2);
    let inside = usize::from(width).saturating_sub(2);
    let edge = |left: char, right: char| format!("{left}{}{right}", "─".repeat(inside));
    let mut lines = vec![Line::from(Span::styled(edge('┌', '┐'), paint.faint()))];
    for (key, text) in HELP.iter().take(usize::from(height).saturating_sub(2)) {
        let pad = " ".repeat(keys - key.width());
        let text = fit(&format!(" {pad}{key}  {text}"), inside);
        let rest = " ".repeat(inside - text.width());
        lines.push(Line::from(vec![
            Span::styled("│", paint.faint()),
            Span::raw(text + &rest),
            Span::styled("│", paint.faint()),
        ]));
    }
    lines.push(Line::from(Span::styled(edge('└', '┘'), paint.faint())));
    for (line, row) in lines.iter().zip(y..y + height) {
        buffer.set_style(Rect::new(x, row, width, 1), Style::reset());
        buffer.set_line(x, row, line, width);
    }
}
