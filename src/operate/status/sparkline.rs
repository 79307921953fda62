//! A small line chart as SVG: no script, and its colours come from the page's style sheet.

use std::fmt::Write as _;

use maud::{Markup, html};

/// Width and height of the chart's view box.
const SIZE: (f64, f64) = (160.0, 36.0);

/// Draws `numbers`, oldest first, with `label` for screen readers. Draws nothing for fewer than two numbers.
pub(super) fn draw(numbers: &[f64], label: &str) -> Markup {
    if numbers.len() < 2 {
        return html! {};
    }
    let (width, height) = SIZE;
    let points = points(numbers);
    html! {
        svg.line viewBox={ "0 0 " (width) " " (height) } preserveAspectRatio="none" role="img" aria-label=(label) {
            polygon points={ "0," (height) " " (points) " " (width) "," (height) } {}
            polyline points=(points) {}
        }
    }
}

/// Returns the corners of the line, scaled to [`SIZE`], with a margin of one unit above and below.
fn points(numbers: &[f64]) -> String {
    let (width, height) = SIZE;
    let most = numbers.iter().copied().fold(1.0_f64, f64::max);
    let steps = u32::try_from(numbers.len() - 1).map_or(1.0, f64::from);
    let mut points = String::new();
    for (at, number) in (0_u32..).zip(numbers) {
        let x = f64::from(at) * width / steps;
        let y = height - 1.0 - (number / most) * (height - 2.0);
        let space = if at == 0 { "" } else { " " };
        write!(points, "{space}{x:.1},{y:.1}").expect("writing to a String does not fail");
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_needs_two_numbers_and_stays_inside() {
        assert_eq!(draw(&[], "none").into_string(), "");
        assert_eq!(draw(&[7.0], "one").into_string(), "");
        let svg = draw(&[0.0, 50.0, 100.0], "three").into_string();
        assert!(svg.contains("<polyline points=\"0.0,35.0 80.0,18.0 160.0,1.0\">"), "{svg}");
        let flat = draw(&[0.0, 0.0], "zero").into_string();
        assert!(flat.contains("\"0.0,35.0 160.0,35.0\""), "{flat}");
    }
}
