//! What was measured, for people and as JSON.

use serde::Serialize;

/// One row of the table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) row: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What it was compared with in the same run.
    pub(crate) peer: String,
    pub(crate) peer_value: Option<f64>,
    pub(crate) target: String,
    /// Whether the target was reached; none for a row that only informs.
    pub(crate) holds: Option<bool>,
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
pub(crate) fn table(rows: &[Row]) -> String {
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
