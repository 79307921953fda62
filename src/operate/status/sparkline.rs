//! A small line of numbers, as SVG: no script, no library, and its colour comes from the page.

use std::fmt::Write as _;

/// Width and height of the drawing, in its own units.
const SIZE: (f64, f64) = (160.0, 36.0);

/// The drawing, with what it shows for those who can't see it. Nothing for fewer than two numbers.
pub(super) fn draw(numbers: &[f64], what: &str) -> String {
    if numbers.len() < 2 {
        return String::new();
    }
    let (width, height) = SIZE;
    let most = numbers.iter().copied().fold(1.0_f64, f64::max);
    let steps = u32::try_from(numbers.len() - 1).map_or(1.0, f64::from);
    let mut points = String::new();
    for (at, number) in (0_u32..).zip(numbers) {
        let x = f64::from(at) * width / steps;
        // A pixel above and below, so that the line is whole at its extremes.
        let y = height - 1.0 - (number / most) * (height - 2.0);
        write!(points, "{x:.1},{y:.1} ").expect("writing to a String does not fail");
    }
    let points = points.trim_end();
    format!(
        "<svg class=\"line\" viewBox=\"0 0 {width} {height}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{what}\"><polygon points=\"0,{height} {points} {width},{height}\"/>\
         <polyline points=\"{points}\"/></svg>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_needs_two_numbers_and_stays_inside() {
        assert_eq!(draw(&[], "none"), "");
        assert_eq!(draw(&[7.0], "one"), "");
        let svg = draw(&[0.0, 50.0, 100.0], "three");
        assert!(svg.contains("<polyline points=\"0.0,35.0 80.0,18.0 160.0,1.0\"/>"), "{svg}");
        let flat = draw(&[0.0, 0.0], "zero");
        assert!(flat.contains("\"0.0,35.0 160.0,35.0\""), "{flat}");
    }
}
