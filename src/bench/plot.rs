//! Plots as SVG, without a script and without anything from elsewhere.

use std::fmt::Write as _;

/// Units of the drawing, which is scaled to the page.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 44.0;

/// About so many lines across.
const LINES: f64 = 5.0;

/// A plot with one or two lines.
#[derive(Debug)]
pub struct Plot {
    /// What it shows, for those who cannot see it too.
    pub title: String,
    /// What is across.
    pub across: Axis,
    /// What is up.
    pub up: Axis,
    /// The lines.
    pub series: Vec<Series>,
}

/// A line.
#[derive(Debug)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its points, in the values of the axes.
    pub points: Vec<(f64, f64)>,
}

/// An axis.
#[derive(Debug)]
pub struct Axis {
    label: String,
    scale: Scale,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithmic,
}

impl Axis {
    /// From zero to somewhat above the largest value.
    pub fn linear(label: &str, largest: f64) -> Self {
        let largest = if largest > 0.0 && largest.is_finite() { largest } else { 1.0 };
        let step = step(largest / LINES);
        let count = (largest / step).ceil();
        let mut ticks = Vec::new();
        let mut number = 0.0;
        while number <= count {
            ticks.push((number * step, short(number * step)));
            number += 1.0;
        }
        Self { label: label.to_owned(), scale: Scale::Linear, from: 0.0, to: count * step, ticks }
    }

    /// In powers of ten around these values.
    pub fn logarithmic(label: &str, smallest: f64, largest: f64) -> Self {
        let sound = |value: f64| if value > 0.0 && value.is_finite() { value } else { 1.0 };
        let from = sound(smallest).log10().floor();
        let to = sound(largest).log10().ceil().max(from + 1.0);
        let mut ticks = Vec::new();
        let mut power = from;
        while power <= to {
            ticks.push((10.0_f64.powf(power), short(10.0_f64.powf(power))));
            power += 1.0;
        }
        let (from, to) = (10.0_f64.powf(from), 10.0_f64.powf(to));
        Self { label: label.to_owned(), scale: Scale::Logarithmic, from, to, ticks }
    }

    /// Linear, with ticks of the caller's.
    pub fn with_ticks(label: &str, from: f64, to: f64, ticks: Vec<(f64, String)>) -> Self {
        Self { label: label.to_owned(), scale: Scale::Linear, from, to: to.max(from + 1e-9), ticks }
    }

    /// Where a value is, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Logarithmic => {
                (value.max(self.from).log10() - self.from.log10()) / (self.to.log10() - self.from.log10())
            }
        };
        if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// The next of 1, 2 and 5 times a power of ten.
fn step(size: f64) -> f64 {
    let power = 10.0_f64.powf(size.log10().floor());
    let factor = size / power;
    let factor = [1.0, 2.0, 5.0].into_iter().find(|step| factor <= *step).unwrap_or(10.0);
    factor * power
}

/// A number without zeros that say nothing.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{}M", trimmed(value / 1e6)),
        size if size >= 1e4 => format!("{}k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Plot {
    /// The drawing. Its colours come from the classes `line-0` and `line-1` of the page.
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\"><title>{}</title>\n",
            escaped(&self.title)
        );
        self.draw_grid(&mut svg);
        for (number, series) in self.series.iter().enumerate() {
            self.draw_series(&mut svg, number, series);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.across.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.up.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn draw_grid(&self, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, name) in &self.up.ticks {
            let y = self.y(*value);
            draw(
                svg,
                &format!("<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>"),
            );
            let at = format!("x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\"", LEFT - 6.0, y + 4.0);
            draw(svg, &format!("<text {at}>{}</text>", escaped(name)));
        }
        for (value, name) in &self.across.ticks {
            let x = self.x(*value);
            draw(
                svg,
                &format!("<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>"),
            );
            let at = format!("x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\"", bottom + 16.0);
            draw(svg, &format!("<text {at}>{}</text>", escaped(name)));
        }
        let (middle, low) = (f64::midpoint(LEFT, right), HEIGHT - 6.0);
        let label = escaped(&self.across.label);
        draw(svg, &format!("<text x=\"{middle:.1}\" y=\"{low:.1}\" text-anchor=\"middle\">{label}</text>"));
        let half = f64::midpoint(TOP, bottom);
        let label = escaped(&self.up.label);
        draw(
            svg,
            &format!(
                "<text transform=\"translate(14 {half:.1}) rotate(-90)\" text-anchor=\"middle\">{label}</text>"
            ),
        );
    }

    fn draw_series(&self, svg: &mut String, number: usize, series: &Series) {
        let mut points = String::new();
        for (across, up) in &series.points {
            // Writing to a string cannot fail.
            let _written = write!(points, "{:.1},{:.1} ", self.x(*across), self.y(*up));
        }
        let name = escaped(&series.name);
        let points = points.trim_end();
        // A line of one point is nothing to be seen.
        if let [(across, up)] = series.points.as_slice() {
            let (x, y) = (self.x(*across), self.y(*up));
            draw(
                svg,
                &format!(
                    "<circle class=\"dot-{number}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{name}</title></circle>"
                ),
            );
        } else {
            draw(
                svg,
                &format!(
                    "<polyline class=\"line-{number}\" points=\"{points}\"><title>{name}</title></polyline>"
                ),
            );
        }
    }
}

fn draw(svg: &mut String, element: &str) {
    svg.push_str(element);
    svg.push('\n');
}

/// Text that stands for itself in HTML and SVG. Control characters, which XML has no place for, go.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let names =
            |axis: &Axis| axis.ticks.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>().join(" ");
        assert_eq!(names(&Axis::linear("", 4700.0)), "0 1000 2000 3000 4000 5000");
        assert_eq!(names(&Axis::linear("", 0.0)), "0 0.2 0.4 0.6 0.8 1");
        assert_eq!(names(&Axis::linear("", 90_000.0)), "0 20k 40k 60k 80k 100k");
        assert_eq!(names(&Axis::logarithmic("", 0.03, 4.0)), "0.01 0.1 1 10");
        assert_eq!(names(&Axis::logarithmic("", 0.0, f64::NAN)), "1 10");
    }

    #[test]
    fn every_point_is_within_the_frame() {
        let plot = Plot {
            title: "a <b> & \"c\"".to_owned(),
            across: Axis::linear("x", 10.0),
            up: Axis::logarithmic("y", 0.1, 100.0),
            series: vec![Series {
                name: "s".to_owned(),
                points: vec![(-5.0, 0.0), (5.0, 3.0), (99.0, f64::INFINITY)],
            }],
        };
        let svg = plot.svg();
        assert!(svg.contains("<title>a &lt;b&gt; &amp; &quot;c&quot;</title>"), "{svg}");
        assert!(svg.contains("points=\"70.0,256.0 407.0,137.8 744.0,256.0\""), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
