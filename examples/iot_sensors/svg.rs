//! Draws one sensor as an SVG picture: its readings, hourly means, the band in which a reading is no alert, its
//! alerts and its labelled faults. Pure: the same chart gives the same text.

use std::fmt::Write;

use super::alerts::{Alert, Band};
use super::civil::{self, DAY_MS, Date, HOUR_MS};
use super::labels::FaultWindow;
use super::stats::HourlyStats;

const WIDTH: f64 = 1_280.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 98.0;
const BOTTOM: f64 = 52.0;

/// A silence longer than this cuts the lines: nobody knows what was between.
const GAP_MS: i64 = 6 * HOUR_MS;

/// Ticks of the time axis are so far apart, the first step that gives few enough of them.
const TIME_STEPS_MS: [i64; 12] = [
    HOUR_MS,
    2 * HOUR_MS,
    3 * HOUR_MS,
    6 * HOUR_MS,
    12 * HOUR_MS,
    DAY_MS,
    2 * DAY_MS,
    7 * DAY_MS,
    14 * DAY_MS,
    28 * DAY_MS,
    91 * DAY_MS,
    364 * DAY_MS,
];

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif;fill:#475569}\
.title{font-size:20px;font-weight:600;fill:#0f172a}.sub{font-size:13px}.tick{font-size:12px}\
.grid{stroke:#e2e8f0}.axis{stroke:#94a3b8}.fault{fill:#fb923c;fill-opacity:.22}.faultedge{stroke:#f97316}\
.band{fill:#3b82f6;fill-opacity:.13}.raw{stroke:#94a3b8;fill:none}\
.mean{stroke:#1d4ed8;fill:none;stroke-width:1.4;stroke-linejoin:round}.alert{fill:#dc2626;stroke:#fff;stroke-width:1.2}";

/// What is drawn. Everything is in the order of time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chart {
    /// The large line on top: the sensor.
    pub(crate) title: String,
    /// The small line below: what happened.
    pub(crate) subtitle: String,
    /// What the values are, such as `degrees Fahrenheit`.
    pub(crate) unit: String,
    /// What the band is, such as `last 24 h: mean ± 5 standard deviations`.
    pub(crate) band_name: String,
    /// Every reading: its time and its value.
    pub(crate) readings: Vec<(i64, f64)>,
    /// Every hour.
    pub(crate) hours: Vec<HourlyStats>,
    /// The band of every hour that has one.
    pub(crate) bands: Vec<Band>,
    /// The alerts.
    pub(crate) alerts: Vec<Alert>,
    /// The labelled faults.
    pub(crate) faults: Vec<FaultWindow>,
}

/// The chart as the text of an SVG file.
pub(crate) fn render(chart: &Chart) -> String {
    let scale = Scale::of(&chart.readings);
    let mut svg = String::with_capacity(256 << 10);
    let _ = write!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">
<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>
<clipPath id="plot"><rect x="{LEFT}" y="{TOP}" width="{:.0}" height="{:.0}"/></clipPath>
<text class="title" x="{LEFT}" y="32">{}</text><text class="sub" x="{LEFT}" y="53">{}</text>
"##,
        WIDTH - LEFT - RIGHT,
        HEIGHT - TOP - BOTTOM,
        escape(&chart.title),
        escape(&chart.subtitle),
    );
    draw_legend(&mut svg, chart);
    draw_value_axis(&mut svg, &scale, &chart.unit);
    draw_time_axis(&mut svg, &scale);
    svg.push_str("<g clip-path=\"url(#plot)\">\n");
    draw_faults(&mut svg, &scale, &chart.faults);
    draw_bands(&mut svg, &scale, &chart.bands);
    draw_readings(&mut svg, &scale, &chart.readings);
    draw_means(&mut svg, &scale, &chart.hours);
    for alert in &chart.alerts {
        let (x, y) = (scale.x(alert.timestamp_ms), scale.y(alert.value));
        let (at, score) = (civil::format(alert.timestamp_ms), alert.score);
        let _ = write!(svg, r#"<circle class="alert" cx="{x:.1}" cy="{y:.1}" r="5">"#);
        let value = alert.value;
        let _ = writeln!(svg, "<title>{at}: {value} ({score:.1} standard deviations)</title></circle>");
    }
    svg.push_str("</g>\n</svg>\n");
    svg
}

/// Which part of the picture a time and a value are at.
struct Scale {
    start_ms: i64,
    end_ms: i64,
    low: f64,
    high: f64,
}

impl Scale {
    /// So that all readings are in the plot, with some air above and below. The bands are not asked: after a fault
    /// they are so wide that nothing else could be seen.
    fn of(readings: &[(i64, f64)]) -> Scale {
        let start_ms = readings.iter().map(|reading| reading.0).min().unwrap_or(0);
        let end_ms = readings.iter().map(|reading| reading.0).max().unwrap_or(0).max(start_ms + HOUR_MS);
        let low = readings.iter().map(|reading| reading.1).fold(f64::INFINITY, f64::min);
        let high = readings.iter().map(|reading| reading.1).fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let air = ((high - low) * 0.06).max(high.abs() * 1e-3).max(1e-3);
        Scale { start_ms, end_ms, low: low - air, high: high + air }
    }

    fn x(&self, timestamp_ms: i64) -> f64 {
        let share = (timestamp_ms - self.start_ms) as f64 / (self.end_ms - self.start_ms) as f64;
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        // A band may reach far outside; the picture is cut at the plot, but its numbers should stay numbers.
        HEIGHT - BOTTOM - share.clamp(-1.0, 2.0) * (HEIGHT - TOP - BOTTOM)
    }
}

fn draw_legend(svg: &mut String, chart: &Chart) {
    let entries = [
        (r#"<path class="raw" d="M0 -4h24" stroke-width="1.5"/>"#, "readings".to_owned(), true),
        (r#"<path class="mean" d="M0 -4h24" stroke-width="2"/>"#, "hourly mean".to_owned(), true),
        (
            r#"<rect class="band" y="-11" width="24" height="13" style="fill-opacity:.25"/>"#,
            chart.band_name.clone(),
            !chart.bands.is_empty(),
        ),
        (
            r#"<circle class="alert" cx="12" cy="-4" r="5"/>"#,
            format!("alert ({})", chart.alerts.len()),
            !chart.alerts.is_empty(),
        ),
        (
            r#"<rect class="fault" y="-11" width="24" height="13" style="fill-opacity:.4"/>"#,
            format!("labelled fault ({})", chart.faults.len()),
            !chart.faults.is_empty(),
        ),
    ];
    let mut x = LEFT;
    for (mark, name, _) in entries.iter().filter(|entry| entry.2) {
        let name = escape(name);
        let _ = writeln!(
            svg,
            r#"<g transform="translate({x:.0} 82)">{mark}<text class="sub" x="31" y="0">{name}</text></g>"#
        );
        // An SVG knows no text width before it is shown; 6.6 a letter is right for this size, give or take.
        x += 31.0 + 6.6 * name.chars().count() as f64 + 26.0;
    }
}

fn draw_value_axis(svg: &mut String, scale: &Scale, unit: &str) {
    let step = nice_step((scale.high - scale.low) / 6.0);
    let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    let right = WIDTH - RIGHT;
    let (first, last) = ((scale.low / step).ceil() as i64, (scale.high / step).floor() as i64);
    for tick in first..=last.min(first + 20) {
        let value = tick as f64 * step;
        let y = scale.y(value);
        let _ = write!(svg, r#"<path class="grid" d="M{LEFT} {y:.1}H{right}"/>"#);
        let (x, y) = (LEFT - 9.0, y + 4.0);
        let text = short_number(value, decimals);
        let _ = writeln!(svg, r#"<text class="tick" x="{x}" y="{y:.1}" text-anchor="end">{text}</text>"#);
    }
    let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
    let unit = escape(unit);
    let _ = writeln!(
        svg,
        r#"<text class="sub" transform="translate(20 {middle}) rotate(-90)" text-anchor="middle">{unit}</text>"#
    );
}

fn draw_time_axis(svg: &mut String, scale: &Scale) {
    let length_ms = scale.end_ms - scale.start_ms;
    let step_ms = TIME_STEPS_MS.into_iter().find(|step| length_ms / step <= 12);
    let step_ms = step_ms.unwrap_or(length_ms / 12);
    let bottom = HEIGHT - BOTTOM;
    let mut at = scale.start_ms + (-scale.start_ms).rem_euclid(step_ms);
    let mut year = None;
    while at <= scale.end_ms {
        let (x, date, (hour, minute)) = (scale.x(at), Date::of(at), civil::hour_and_minute(at));
        let day = format!("{} {}", date.month_name(), date.day);
        let text = if step_ms < DAY_MS { format!("{day} {hour:02}:{minute:02}") } else { day };
        let _ = write!(svg, r#"<path class="axis" d="M{x:.1} {bottom}v6"/>"#);
        let _ =
            writeln!(svg, r#"<text class="tick" x="{x:.1}" y="{}" text-anchor="middle">{text}</text>"#, {
                bottom + 21.0
            });
        if year != Some(date.year) {
            year = Some(date.year);
            let (y, year) = (bottom + 38.0, date.year);
            let _ =
                writeln!(svg, r#"<text class="tick" x="{x:.1}" y="{y}" text-anchor="middle">{year}</text>"#);
        }
        at += step_ms;
    }
    let (right, y) = (WIDTH - RIGHT, bottom + 38.0);
    let _ = writeln!(svg, r#"<path class="axis" d="M{LEFT} {bottom}H{right}"/>"#);
    let _ = writeln!(svg, r#"<text class="tick" x="{right}" y="{y}" text-anchor="end">time, UTC</text>"#);
}

fn draw_faults(svg: &mut String, scale: &Scale, faults: &[FaultWindow]) {
    let (bottom, height) = (HEIGHT - BOTTOM, HEIGHT - TOP - BOTTOM);
    for fault in faults {
        let (left, right) = (scale.x(fault.start_ms), scale.x(fault.end_ms));
        let width = (right - left).max(2.0);
        let _ = write!(
            svg,
            r#"<rect class="fault" x="{left:.1}" y="{TOP}" width="{width:.1}" height="{height}">"#
        );
        let (from, to) = (civil::format(fault.start_ms), civil::format(fault.end_ms));
        let _ = write!(svg, "<title>labelled fault: {from} to {to}</title></rect>");
        let _ = writeln!(
            svg,
            r#"<path class="faultedge" d="M{left:.1} {TOP}V{bottom}M{right:.1} {TOP}V{bottom}"/>"#
        );
    }
}

/// One closed shape for every stretch without a gap: along the upper edge and back along the lower one.
fn draw_bands(svg: &mut String, scale: &Scale, bands: &[Band]) {
    for stretch in bands.chunk_by(|left, right| right.start_ms - left.start_ms <= GAP_MS) {
        let mut path = String::from("M");
        // A band holds for its whole hour, so it is a stair.
        for band in stretch {
            let (from, to) = (scale.x(band.start_ms), scale.x(band.start_ms + HOUR_MS));
            let y = scale.y(band.high);
            let _ = write!(path, "{from:.1} {y:.1} {to:.1} {y:.1} ");
        }
        for band in stretch.iter().rev() {
            let (from, to) = (scale.x(band.start_ms), scale.x(band.start_ms + HOUR_MS));
            let y = scale.y(band.low);
            let _ = write!(path, "{to:.1} {y:.1} {from:.1} {y:.1} ");
        }
        let _ = writeln!(svg, r#"<path class="band" d="{}Z"/>"#, path.trim_end());
    }
}

/// The readings of one column of pixels become at most four: the first, the lowest, the highest and the last. So a
/// picture of a million readings looks the same and stays small, and no single spike is lost.
fn draw_readings(svg: &mut String, scale: &Scale, readings: &[(i64, f64)]) {
    let column = |reading: &(i64, f64)| (scale.x(reading.0) * 2.0) as i64;
    for stretch in readings.chunk_by(|left, right| right.0 - left.0 <= GAP_MS) {
        let mut points = Vec::new();
        for same in stretch.chunk_by(|left, right| column(left) == column(right)) {
            let by_value = |left: &&(i64, f64), right: &&(i64, f64)| left.1.total_cmp(&right.1);
            let mut kept =
                [same.first(), same.iter().min_by(by_value), same.iter().max_by(by_value), same.last()];
            kept.sort_by_key(|reading| reading.map(|reading| reading.0));
            points.extend(kept.into_iter().flatten().map(|&(at, value)| (scale.x(at), scale.y(value))));
        }
        draw_line(svg, "raw", points);
    }
}

fn draw_means(svg: &mut String, scale: &Scale, hours: &[HourlyStats]) {
    for stretch in hours.chunk_by(|left, right| right.window_start_ms - left.window_start_ms <= GAP_MS) {
        // A mean belongs to the middle of its hour.
        let point = |hour: &HourlyStats| (scale.x(hour.window_start_ms + HOUR_MS / 2), scale.y(hour.mean));
        draw_line(svg, "mean", stretch.iter().map(point).collect());
    }
}

fn draw_line(svg: &mut String, class: &str, mut points: Vec<(f64, f64)>) {
    points.dedup();
    // A reading alone between two gaps is a line to itself, which round ends turn into a dot.
    if let [point] = points[..] {
        points.push((point.0 + 0.5, point.1));
    }
    let _ = write!(svg, r#"<path class="{class}" d="M"#);
    for (n, (x, y)) in points.into_iter().enumerate() {
        let space = if n == 0 { "" } else { " " };
        let _ = write!(svg, "{space}{x:.1} {y:.1}");
    }
    svg.push_str("\"/>\n");
}

/// The smallest of 1, 2, 5, 10, 20, ... that is at least `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|&step| step >= rough);
    step.filter(|step| step.is_finite() && *step > 0.0).unwrap_or(1.0)
}

fn short_number(value: f64, decimals: usize) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{}G", value / 1e9),
        size if size >= 1e6 => format!("{}M", value / 1e6),
        size if size >= 1e4 => format!("{}k", value / 1e3),
        _ => format!("{value:.decimals$}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::stats::Stats;
    use super::*;

    fn chart() -> Chart {
        let readings: Vec<_> = (0..2_000).map(|n| (n * 300_000, f64::from((n % 13) as i32))).collect();
        let stats = Stats { count: 12, mean: 6.0, m2: 12.0, min: 0.0, max: 12.0 };
        Chart {
            title: "a <sensor> & more".into(),
            unit: "°C".into(),
            band_name: "band".into(),
            hours: (0..166).map(|hour| HourlyStats::new("s", hour * HOUR_MS, &stats)).collect(),
            bands: vec![Band { start_ms: 0, low: -1e300, high: 1e300 }],
            faults: vec![FaultWindow { start_ms: DAY_MS, end_ms: 2 * DAY_MS }],
            readings,
            ..Chart::default()
        }
    }

    #[test]
    fn every_part_is_drawn_and_text_is_escaped() {
        let svg = render(&chart());
        for part in [
            "a &lt;sensor&gt; &amp; more",
            ">°C<",
            ">Jan 2<",
            ">1970<",
            "class=\"raw\"",
            "class=\"mean\"",
            "class=\"band\"",
            "<title>labelled fault: 1970-01-02 00:00:00 to 1970-01-03 00:00:00</title>",
        ] {
            assert!(svg.contains(part), "{part}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "a number is none");
        assert_eq!(svg, render(&chart()));
    }

    #[test]
    fn an_alert_is_a_dot_that_says_when_and_how_far() {
        let (sensor, timestamp_ms) = ("s".to_owned(), DAY_MS);
        let alert = Alert {
            sensor,
            timestamp_ms,
            value: 12.0,
            mean: 6.0,
            stddev: 1.0,
            score: 6.0,
            readings: 288,
            suppressed: 0,
        };
        let svg = render(&Chart { alerts: vec![alert], ..chart() });
        assert!(svg.contains("<title>1970-01-02 00:00:00: 12 (6.0 standard deviations)</title></circle>"));
        assert!(svg.contains(">alert (1)<"));
    }

    #[test]
    fn the_picture_of_many_readings_stays_small_and_keeps_every_spike() {
        let mut readings: Vec<_> = (0..1_000_000).map(|n| (n * 1_000, f64::from((n % 7) as i32))).collect();
        readings[500_000].1 = 100.0;
        let scale = Scale::of(&readings);
        let spike = format!("{:.1}", scale.y(100.0));
        let svg = render(&Chart { readings, ..Chart::default() });
        assert!(svg.len() < 200 << 10, "{}", svg.len());
        assert!(svg.contains(&spike));
    }

    #[test]
    fn little_input_is_no_trouble() {
        let one = Chart { readings: vec![(5, 1e12)], ..Chart::default() };
        let same = Chart { readings: vec![(5, 0.0), (5, 0.0)], ..Chart::default() };
        for chart in [Chart::default(), one, same] {
            let svg = render(&chart);
            assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{svg}");
        }
    }

    #[test]
    fn a_gap_cuts_the_line() {
        let readings = vec![(0, 1.0), (HOUR_MS, 2.0), (20 * HOUR_MS, 1.0), (21 * HOUR_MS, 3.0)];
        let svg = render(&Chart { readings, ..Chart::default() });
        assert_eq!(svg.matches("<path class=\"raw\" d=\"M").count(), 2 + 1, "two lines and the legend");
    }

    #[test]
    fn steps_are_nice() {
        for (rough, step) in [(0.7, 1.0), (1.0, 1.0), (1.2, 2.0), (3.0, 5.0), (70.0, 100.0), (0.03, 0.05)] {
            assert!((nice_step(rough) - step).abs() < 1e-12, "{rough}");
        }
        assert_eq!(nice_step(0.0), 1.0);
        assert_eq!(short_number(2_500_000.0, 0), "2.5M");
        assert_eq!(short_number(0.25, 2), "0.25");
    }
}
