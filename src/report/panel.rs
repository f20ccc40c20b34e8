//! A diagram: two axes, a grid, and lines of values.

use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

use super::axis::Axis;
use super::canvas::{Canvas, Face, INK, Point, WHITE};
use crate::error::Result;

pub(super) const GRID: RGBColor = RGBColor(228, 228, 228);
const FRAME: RGBColor = RGBColor(120, 120, 120);
pub(super) const MUTED: RGBColor = RGBColor(95, 95, 95);

const TITLE: Face = Face::bold(23.0);
pub(super) const LABEL: Face = Face::plain(20.0);

pub(super) const LINE: f64 = 3.0;

/// Colours of Okabe and Ito: told apart with every kind of colour blindness, the first two also by
/// their lightness in a grey print.
pub(super) const COLORS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

/// How a line is drawn.
#[derive(Clone, Copy)]
pub(super) struct LineStyle {
    pub color: RGBColor,
    /// Length of its dashes in points; 0 for none.
    pub dash: f64,
}

impl LineStyle {
    /// A line without dashes.
    pub fn of(color: RGBColor) -> LineStyle {
        LineStyle { color, dash: 0.0 }
    }

    /// Joins the points; dashes go on around the corners.
    pub fn draw(self, canvas: &Canvas<'_>, points: &[Point]) -> Result<()> {
        const GAP: f64 = 8.0;
        let period = self.dash + GAP;
        let mut done = 0.0;
        for pair in points.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            if self.dash == 0.0 || length == 0.0 {
                canvas.line(from, to, LINE, self.color)?;
                continue;
            }
            let at = |way: f64| {
                let share = way.clamp(0.0, length) / length;
                (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1))
            };
            let mut begin = -(done % period);
            while begin < length {
                if begin + self.dash > 0.0 {
                    canvas.line(at(begin), at(begin + self.dash), LINE, self.color)?;
                }
                begin += period;
            }
            done += length;
        }
        Ok(())
    }
}

/// One line: (x, value) in order, without a value where it cannot be drawn.
pub(super) type Series = Vec<(f64, Option<f64>)>;

/// One diagram; the edges are those of the area the lines are drawn in.
pub(super) struct Panel {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    /// Name of what is shown, and below it of what it is shown along.
    pub name: &'static str,
    pub x_name: &'static str,
    pub x: Axis,
    pub y: Axis,
}

impl Panel {
    pub fn at(&self, x: f64, value: f64) -> Point {
        let x = self.left + (self.right - self.left) * self.x.share(x);
        (x, self.bottom - (self.bottom - self.top) * self.y.share(value))
    }

    /// Grid, ticks, labels and the two axis lines. The name stands level over the vertical axis,
    /// where it is easier to read than turned on its side.
    pub fn draw_axes(&self, canvas: &Canvas<'_>) -> Result<()> {
        let hairline = |from: Point, to: Point, color| {
            let (from, to) = ((from.0.round(), from.1.round()), (to.0.round(), to.1.round()));
            canvas.rectangle(from, (to.0.max(from.0 + 1.0), to.1.max(from.1 + 1.0)), color)
        };
        for tick in self.y.ticks() {
            let (_, y) = self.at(self.x.low, tick);
            hairline((self.left, y), (self.right, y), GRID)?;
            canvas.text((self.left - 12.0, y + 6.0), HPos::Right, LABEL, MUTED, &self.y.label(tick))?;
        }
        for tick in self.x.ticks() {
            let (x, _) = self.at(tick, self.y.low);
            hairline((x, self.top), (x, self.bottom), GRID)?;
            hairline((x, self.bottom), (x, self.bottom + 6.0), FRAME)?;
            canvas.text((x, self.bottom + 27.0), HPos::Center, LABEL, MUTED, &self.x.label(tick))?;
        }
        hairline((self.left, self.top), (self.left, self.bottom), FRAME)?;
        hairline((self.left, self.bottom), (self.right, self.bottom), FRAME)?;
        canvas.text((self.left, self.top - 18.0), HPos::Left, TITLE, INK, self.name)?;
        let middle = (self.left + self.right) / 2.0;
        canvas.text((middle, self.bottom + 56.0), HPos::Center, LABEL, INK, self.x_name)
    }

    /// Joins the values; a value that cannot be drawn breaks the line. Values get dots where they
    /// are few enough to be told apart, and where they have no neighbour to be joined to.
    pub fn draw_line(&self, canvas: &Canvas<'_>, series: &Series, style: LineStyle) -> Result<()> {
        let radius = if series.len() <= 30 { 4.5 } else { LINE / 2.0 };
        for part in series.split(|(_, value)| value.is_none()) {
            let points: Vec<Point> =
                part.iter().filter_map(|(x, value)| Some(self.at(*x, (*value)?))).collect();
            style.draw(canvas, &points)?;
            let radius = if points.len() == 1 { 4.5 } else { radius };
            let dotted = style.dash == 0.0 || radius > LINE;
            points.iter().filter(|_| dotted).try_for_each(|point| canvas.dot(*point, radius, style.color))?;
        }
        Ok(())
    }

    /// A line upright through x, where something else begins, and what that is.
    pub fn divide(&self, canvas: &Canvas<'_>, x: f64, name: &str) -> Result<()> {
        let (x, _) = self.at(x, self.y.low);
        let x = x.round();
        canvas.rectangle((x, self.top), (x + 2.0, self.bottom), FRAME)?;
        canvas.text((x + 8.0, self.top + 20.0), HPos::Left, LABEL, MUTED, name)
    }

    /// A dashed line upright through x.
    pub fn mark(&self, canvas: &Canvas<'_>, x: f64) -> Result<()> {
        let (x, _) = self.at(x, self.y.low);
        let x = x.round();
        let mut y = self.top;
        while y < self.bottom {
            canvas.rectangle((x, y), (x + 1.0, (y + 7.0).min(self.bottom)), MUTED)?;
            y += 12.0;
        }
        Ok(())
    }

    pub fn ring(&self, canvas: &Canvas<'_>, series: &Series, x: f64, color: RGBColor) -> Result<()> {
        match series.iter().find(|(at, _)| *at == x) {
            Some((at, Some(value))) => ring(canvas, self.at(*at, *value), color),
            _ => Ok(()),
        }
    }
}

/// A ring around a value that is marked.
pub(super) fn ring(canvas: &Canvas<'_>, center: Point, color: RGBColor) -> Result<()> {
    canvas.dot(center, 8.5, color)?;
    canvas.dot(center, 5.5, WHITE)
}
