//! The overlay as a picture in text: a few nodes on a circle with links as chords, many as a table
//! with a mark for each link.
//!
//! Entry function: [`draw`]. The rule it keeps: pure, and the same numbers make the same picture.

use std::collections::HashSet;
use std::f64::consts::TAU;

/// A character cell holds two by four dots (Unicode's braille patterns).
const DOTS_ACROSS: usize = 2;
const DOTS_DOWN: usize = 4;
/// Maximum number of nodes on the circle: with more, the chords hide each other.
const MAX_ON_CIRCLE: usize = 20;
/// Number of rows of a circle; each two nodes add one.
const ROWS: usize = 17;
/// Gap between the ends of the chords and the middle of a node's number, in cells.
const LABEL_GAP: f64 = 1.5;
/// Number of columns at each side for the numbers.
const MARGIN: usize = 4;

/// Draws the nodes 1 to `nodes` and the links between them.
pub(super) fn draw(nodes: usize, links: &[(usize, usize)]) -> Vec<String> {
    match nodes {
        0..=MAX_ON_CIRCLE => circle(nodes, links),
        _ => table(nodes, links),
    }
}

/// Draws a table with a row and a column for each node and a mark where two are linked.
fn table(nodes: usize, links: &[(usize, usize)]) -> Vec<String> {
    let digit = |node: usize, place: usize| match (node / place, place) {
        (0, _) => ' ',
        // Print tens and hundreds only where they change.
        (n, 10..) if node.is_multiple_of(10) => char::from_digit(n as u32 % 10, 10).unwrap_or(' '),
        (_, 10..) => ' ',
        (n, _) => char::from_digit(n as u32 % 10, 10).unwrap_or(' '),
    };
    let head = |place: usize| {
        let digits: String = (1..=nodes).map(|node| digit(node, place)).collect();
        format!("     {}", digits.trim_end())
    };
    let linked: HashSet<(usize, usize)> = links
        .iter()
        .flat_map(|(a, b)| [(*a, *b), (*b, *a)])
        .collect();
    let mark = |row: usize, column: usize| match linked.contains(&(row, column)) {
        true => '█',
        false if row == column => '╲',
        false => '·',
    };
    let row = |row: usize| {
        let marks: String = (1..=nodes).map(|column| mark(row, column)).collect();
        format!("{row:>4} {marks}")
    };
    let heads = [100, 10, 1]
        .into_iter()
        .filter(|place| nodes >= *place)
        .map(head);
    heads.chain((1..=nodes).map(row)).collect()
}

/// Draws the nodes on a circle, clockwise from the top.
fn circle(nodes: usize, links: &[(usize, usize)]) -> Vec<String> {
    let mut canvas = Canvas::for_nodes(nodes);
    for (a, b) in links {
        let (from, to) = (canvas.dot_of(*a, nodes), canvas.dot_of(*b, nodes));
        canvas.chord(from, to);
    }
    for node in 1..=nodes {
        canvas.label(node, nodes);
    }
    canvas.lines()
}

/// A canvas of characters; those with dots are braille.
struct Canvas {
    cells: Vec<Vec<Cell>>,
    /// Size in dots; on most terminals a dot is as wide as it is high.
    middle: (f64, f64),
    radius: f64,
}

#[derive(Clone, Copy)]
enum Cell {
    Dots(u8),
    Character(char),
}

impl Canvas {
    fn for_nodes(nodes: usize) -> Canvas {
        let rows = ROWS + nodes / 2;
        // Twice as many columns as rows make a square.
        let columns = rows * 2 + 2 * MARGIN;
        let (width, height) = (columns * DOTS_ACROSS, rows * DOTS_DOWN);
        Canvas {
            cells: vec![vec![Cell::Dots(0); columns]; rows],
            middle: (width as f64 / 2.0 - 0.5, height as f64 / 2.0 - 0.5),
            radius: height as f64 / 2.0 - (1.0 + LABEL_GAP) * DOTS_DOWN as f64,
        }
    }

    /// Returns the position of a node on a circle that is `larger` times the circle of the chords.
    fn place(&self, node: usize, nodes: usize, larger: f64) -> (f64, f64) {
        let angle = TAU * (node - 1) as f64 / nodes as f64;
        let radius = self.radius + larger;
        (
            self.middle.0 + radius * angle.sin(),
            self.middle.1 - radius * angle.cos(),
        )
    }

    fn dot_of(&self, node: usize, nodes: usize) -> (f64, f64) {
        self.place(node, nodes, 0.0)
    }

    fn chord(&mut self, from: (f64, f64), to: (f64, f64)) {
        let (across, down) = (to.0 - from.0, to.1 - from.1);
        let steps = across.abs().max(down.abs()).ceil().max(1.0);
        for step in 0..=steps as usize {
            let part = step as f64 / steps;
            self.dot(from.0 + across * part, from.1 + down * part);
        }
    }

    fn dot(&mut self, x: f64, y: f64) {
        // Nothing is drawn outside: the circle lies within the canvas.
        let (x, y) = (x.round().max(0.0) as usize, y.round().max(0.0) as usize);
        let cell = self
            .cells
            .get_mut(y / DOTS_DOWN)
            .and_then(|row| row.get_mut(x / DOTS_ACROSS));
        if let Some(Cell::Dots(dots)) = cell {
            *dots |= braille_bit(x % DOTS_ACROSS, y % DOTS_DOWN);
        }
    }

    fn label(&mut self, node: usize, nodes: usize) {
        let text = node.to_string();
        let (x, y) = self.place(node, nodes, LABEL_GAP * DOTS_DOWN as f64);
        let row = (y / DOTS_DOWN as f64).floor().max(0.0) as usize;
        let middle = (x / DOTS_ACROSS as f64).round().max(0.0) as usize;
        let first = middle.saturating_sub(text.len() / 2);
        for (at, character) in text.chars().enumerate() {
            if let Some(cell) = self.cells.get_mut(row).and_then(|r| r.get_mut(first + at)) {
                *cell = Cell::Character(character);
            }
        }
    }

    fn lines(self) -> Vec<String> {
        let line = |row: Vec<Cell>| row.into_iter().map(Cell::character).collect::<String>();
        let lines = self.cells.into_iter().map(line);
        lines.map(|line| line.trim_end().to_owned()).collect()
    }
}

impl Cell {
    fn character(self) -> char {
        match self {
            Cell::Character(character) => character,
            Cell::Dots(0) => ' ',
            Cell::Dots(dots) => char::from_u32(0x2800 + u32::from(dots)).unwrap_or('?'),
        }
    }
}

/// Returns the bit of a dot: they are numbered down the left column, then the right; the last row, a later addition to
/// braille, has the last two bits.
fn braille_bit(x: usize, y: usize) -> u8 {
    match (x, y) {
        (0, 3) => 0x40,
        (_, 3) => 0x80,
        (0, y) => 1 << y,
        (_, y) => 8 << y,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_dots(lines: &[String]) -> bool {
        let is_dotted = |c: char| ('\u{2801}'..='\u{28ff}').contains(&c);
        lines.iter().any(|line| line.chars().any(is_dotted))
    }

    #[test]
    fn links_are_chords_between_a_few_nodes() {
        for nodes in [3, 8, MAX_ON_CIRCLE] {
            let links: Vec<_> = (2..=nodes).map(|n| (1, n)).collect();
            assert!(has_dots(&draw(nodes, &links)));
        }
    }

    #[test]
    fn eight_nodes_have_their_numbers_apart() {
        let lines = draw(8, &[]);
        let mut numbers: Vec<&str> = lines.iter().flat_map(|l| l.split_whitespace()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, ["1", "2", "3", "4", "5", "6", "7", "8"]);
        assert!(!has_dots(&lines));
    }

    #[test]
    fn many_nodes_are_a_table_with_two_marks_for_each_link() {
        let lines = draw(30, &[(1, 30), (2, 3)]);
        assert_eq!(lines[0], "              1         2         3");
        assert_eq!(lines[1], "     123456789012345678901234567890");
        assert_eq!(lines[2], "   1 ╲····························█");
        assert_eq!(lines.join("").matches('█').count(), 4);
    }
}
