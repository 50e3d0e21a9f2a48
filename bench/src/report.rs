//! What was measured, for people and as JSON.

use serde::{Deserialize, Serialize};

/// One row of the table.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Row {
    /// What was measured.
    pub row: String,
    /// Longshore's value, in `unit`.
    pub value: f64,
    /// The unit of both values.
    pub unit: String,
    /// What it was compared with in the same run.
    pub peer: String,
    /// The peer's value, in `unit`.
    pub peer_value: Option<f64>,
    /// What Longshore's value should be, in words.
    pub target: String,
    /// Whether the target was reached; none for a row that only informs.
    pub holds: Option<bool>,
}

/// A number with as many digits as it bears.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1000.0 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The table as text.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<44} {:>11} {:<22} {:<26} {:>11}  {:<28} {}\n",
        "row", "longshore", "unit", "peer", "peer's", "target", ""
    );
    for row in rows {
        let holds = match row.holds {
            Some(true) => "holds",
            Some(false) => "MISSED",
            None => "",
        };
        text.push_str(&format!(
            "{:<44} {:>11} {:<22} {:<26} {:>11}  {:<28} {holds}\n",
            row.row,
            number(row.value),
            row.unit,
            row.peer,
            row.peer_value.map(number).unwrap_or_default(),
            row.target,
        ));
    }
    text
}

/// Prints the rows on standard output.
///
/// # Errors
/// They cannot be written as JSON.
pub fn print(rows: &[Row], as_json: bool) -> anyhow::Result<()> {
    if as_json {
        println!("{}", serde_json::to_string_pretty(rows)?);
    } else {
        print!("{}", table(rows));
    }
    Ok(())
}
