//! Prometheus' text format 0.0.4.

use std::fmt::Write as _;

use super::Family;
use super::series::{Kind, Series};

/// Whether a text may name a metric.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Whether a text may name a label; `le` belongs to histograms.
pub(super) fn is_label(text: &str) -> bool {
    is_name(text) && text != "le"
}

/// Writes all series of one name.
pub(super) fn family(out: &mut String, name: &str, family: &Family) {
    let kind = match family.kind {
        Kind::Counter | Kind::SecondsCounter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let help = family.help.replace('\\', r"\\").replace('\n', r"\n");
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
    for (labels, series) in &family.series {
        let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let pairs = pairs.join(",");
        let set = if pairs.is_empty() { String::new() } else { format!("{{{pairs}}}") };
        match series {
            Series::Counter(counter) => line(out, format_args!("{name}{set} {}", counter.get())),
            Series::SecondsCounter(counter) => line(out, format_args!("{name}{set} {}", counter.seconds())),
            Series::Gauge(gauge) => line(out, format_args!("{name}{set} {}", gauge.get())),
            Series::Histogram(histogram) => {
                let (buckets, sum, count) = histogram.read();
                let comma = if pairs.is_empty() { "" } else { "," };
                for (bound, count) in buckets {
                    let bound = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
                    line(out, format_args!("{name}_bucket{{{pairs}{comma}le=\"{bound}\"}} {count}"));
                }
                line(out, format_args!("{name}_sum{set} {sum}"));
                line(out, format_args!("{name}_count{set} {count}"));
            }
        }
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = writeln!(out, "{text}");
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
