//! The plot: time until a copy is used against the size of the source, both on logarithmic axes, as SVG.
//!
//! A drawing library would be more code to build than these lines, which draw one kind of plot.

use std::fmt::Write;

use super::place::Place;
use super::row::Row;
use super::rows::Way;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 600.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 460.0;

/// Colours that people tell apart whatever they see (Okabe and Ito), ours first.
const COLOURS: [&str; 8] = [
    "#0072b2", "#009e73", "#56b4e9", "#e69f00", "#cc79a7", "#d55e00", "#999999", "#000000",
];

/// A line of the plot.
struct Series {
    title: &'static str,
    ours: bool,
    /// Megabytes and milliseconds, rising.
    points: Vec<(f64, f64)>,
}

/// An axis with decades.
struct Axis {
    /// Powers of ten at its ends.
    low: i32,
    high: i32,
    from: f64,
    to: f64,
}

impl Axis {
    /// One that holds all values.
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let smallest = values.clone().fold(f64::INFINITY, f64::min);
        let largest = values.fold(0.0, f64::max);
        let low = decade(smallest.log10().floor());
        Self {
            low,
            high: decade(largest.log10().ceil()).max(low + 1),
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    fn decades(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        (self.low..=self.high).map(|power| {
            let value = 10_f64.powi(power);
            (value, self.place(value))
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a decade of milliseconds or megabytes is a small number"
)]
fn decade(power: f64) -> i32 {
    power as i32
}

/// The plot of all rows that have a size; empty axes where there are none.
pub(super) fn draw(rows: &[Row]) -> String {
    let series = series(rows);
    let points = || series.iter().flat_map(|series| series.points.iter());
    let mut svg = String::new();
    let mut add = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    add(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">"
    ));
    add(format!(
        "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>"
    ));
    add(text(
        LEFT,
        20.0,
        "start",
        "Time until a copy of a database is used (median)",
    ));
    if points().next().is_some() {
        let x = Axis::over(points().map(|(size, _)| *size), LEFT, RIGHT);
        let y = Axis::over(points().map(|(_, time)| *time), BOTTOM, TOP);
        add(grid(&x, &y));
        for (at, one) in series.iter().enumerate() {
            add(curve(one, COLOURS[at % COLOURS.len()], at, &x, &y));
        }
    }
    add("</svg>".to_owned());
    svg
}

/// Ours first, then the other ways, each in one order whatever the rows' order is.
fn series(rows: &[Row]) -> Vec<Series> {
    let points = |prefix: &str| {
        let mut points: Vec<(f64, f64)> = rows
            .iter()
            .filter(|row| row.name.strip_prefix(prefix).is_some_and(is_size))
            .filter_map(|row| Some((f64::from(row.size_mb?), row.p50?)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let warm = Series {
        title: "branch, warm",
        ours: true,
        points: points("ready_warm_unmoved_"),
    };
    let cold = Place::ALL.into_iter().map(|place| Series {
        title: place.description(),
        ours: true,
        points: points(&format!("ready_cold_unmoved_{}_", place.word())),
    });
    let others = Way::ALL.into_iter().map(|way| Series {
        title: way.description(),
        ours: false,
        points: points(&format!("baseline_{}_", way.word())),
    });
    let all = std::iter::once(warm).chain(cold).chain(others);
    all.filter(|series| !series.points.is_empty()).collect()
}

/// Whether the rest of a row's name is a size alone.
fn is_size(rest: &str) -> bool {
    rest.strip_suffix("mb")
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn grid(x: &Axis, y: &Axis) -> String {
    let mut svg = String::new();
    for (value, at) in x.decades() {
        svg.push_str(&line(at, TOP, at, BOTTOM));
        svg.push_str(&text(at, BOTTOM + 18.0, "middle", &size(value)));
    }
    for (value, at) in y.decades() {
        svg.push_str(&line(LEFT, at, RIGHT, at));
        svg.push_str(&text(LEFT - 8.0, at + 4.0, "end", &time(value)));
    }
    svg.push_str(&text(
        f64::midpoint(LEFT, RIGHT),
        BOTTOM + 40.0,
        "middle",
        "size of the source",
    ));
    svg
}

/// A line with a mark at each point and its name at the right. Other ways are dashed.
fn curve(series: &Series, colour: &str, at: usize, x: &Axis, y: &Axis) -> String {
    let mut path = String::new();
    let mut marks = String::new();
    for (size, time) in &series.points {
        let (across, down) = (x.place(*size), y.place(*time));
        let command = if path.is_empty() { 'M' } else { 'L' };
        write!(path, "{command}{across:.1} {down:.1}").expect("a String takes any text");
        write!(
            marks,
            "<circle cx=\"{across:.1}\" cy=\"{down:.1}\" r=\"3.5\" fill=\"{colour}\"/>"
        )
        .expect("a String takes any text");
    }
    let dashes = if series.ours {
        ""
    } else {
        " stroke-dasharray=\"6 4\""
    };
    let row = u32::try_from(at).unwrap_or_default();
    let down = TOP + 12.0 + 20.0 * f64::from(row);
    let sample = RIGHT + 20.0;
    format!(
        "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>{marks}\
         <path d=\"M{sample} {down}h28\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>{}",
        text(sample + 34.0, down + 4.0, "start", series.title)
    )
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64) -> String {
    format!("<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\" stroke=\"#dddddd\"/>")
}

fn text(x: f64, y: f64, anchor: &str, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222222\">{words}</text>"
    )
}

fn size(megabytes: f64) -> String {
    if megabytes >= 1_000.0 {
        format!("{} GB", megabytes / 1_000.0)
    } else {
        format!("{megabytes} MB")
    }
}

fn time(milliseconds: f64) -> String {
    if milliseconds >= 1_000.0 {
        format!("{} s", milliseconds / 1_000.0)
    } else {
        format!("{milliseconds} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, size: u32, p50: f64) -> Row {
        Row {
            size_mb: Some(size),
            p50: Some(p50),
            ..Row::new(name, "ms").value(p50)
        }
    }

    #[test]
    fn a_decade_is_as_long_as_the_next() {
        let axis = Axis::over([20.0, 5_000.0].into_iter(), 0.0, 300.0);
        assert_eq!((axis.low, axis.high), (1, 4));
        let places: Vec<f64> = axis.decades().map(|(_, at)| at.round()).collect();
        assert_eq!(places, [0.0, 100.0, 200.0, 300.0]);
    }

    #[test]
    fn series_have_their_own_sizes_in_order() {
        let rows = [
            row("ready_cold_unmoved_overlay_xfs_1000mb", 1_000, 30.0),
            row("ready_cold_unmoved_overlay_xfs_100mb", 100, 20.0),
            row("ready_cold_unmoved_overlay_xfs_rootless_100mb", 100, 60.0),
            row("ready_cold_unmoved_overlay_xfs_500tables", 80, 25.0),
            row("baseline_dump_psql_100mb", 100, 4_000.0),
        ];
        let found = series(&rows);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].points, [(100.0, 20.0), (1_000.0, 30.0)]);
        assert!(found[0].ours && !found[2].ours);
    }

    #[test]
    fn a_plot_has_a_line_and_a_name_for_each_series() {
        let rows = [
            row("ready_warm_unmoved_100mb", 100, 5.0),
            row("baseline_dump_psql_100mb", 100, 4_000.0),
        ];
        let svg = draw(&rows);
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert!(
            svg.contains("pg_dump | psql") && svg.contains("branch, warm"),
            "{svg}"
        );
        assert!(svg.trim_end().ends_with("</svg>"));
        assert!(draw(&[]).contains("</svg>"));
    }
}
