//! Plots: one SVG, a panel a row, by gnuplot.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::place::Column;
use crate::results::{Results, Row};
use crate::{Failure, run};

const ACROSS: usize = 3;

/// Bars of the medians with their spreads.
pub fn rows(out: &Path, results: &Results) -> Result<(), Failure> {
    let shown: Vec<Row> = Row::ALL
        .into_iter()
        .filter(|&row| Column::ALL.iter().filter(|&&column| !results.all(row, column).is_empty()).count() > 1)
        .collect();
    if shown.is_empty() {
        return Ok(());
    }
    let down = shown.len().div_ceil(ACROSS);
    let mut script = format!(
        "set terminal svg size {},{} font 'sans,11'\nset output '{}'\nset multiplot layout {down},{ACROSS}\n\
         set style fill solid 0.7\nset boxwidth 0.7\nset yrange [0:*]\nset grid ytics\nset xtics rotate by -35 nomirror\n\
         set format y '%.1s%c'\nunset key\n",
        ACROSS * 420,
        down * 300,
        out.join("bench.svg").display()
    );
    for row in shown {
        let (key, unit) = (row.key(), row.unit());
        let mut data = String::new();
        let columns = Column::ALL.into_iter().enumerate();
        for (n, column) in columns {
            if let (Some(median), Some((least, most))) =
                (results.median(row, column), results.spread(row, column))
            {
                let _ = writeln!(data, "\"{}\" {median} {least} {most} {n}", column.name());
            }
        }
        let _ = write!(
            script,
            "$data << END\n{data}END\nset title '{key} ({unit})'\n\
             plot $data using 0:2:5:xtic(1) with boxes lc variable, '' using 0:2:3:4 with yerrorbars lc 'black' pt 0\n"
        );
    }
    script += "unset multiplot\n";
    let file = out.join("bench.gnuplot");
    fs::write(&file, script)?;
    run(Command::new("gnuplot").arg(&file))
}
