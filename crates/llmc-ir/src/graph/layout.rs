//! A layered layout (Sugiyama): ranks by longest path, long edges through waypoints, order within a
//! rank by barycentres, places by least squares under that order.

/// A size, and how far a label reaches to the right of the centre.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) reach: f64,
    /// Lines of labels below it.
    pub(super) labels: usize,
    pub(super) pin: Option<Pin>,
}

/// An item that must be in the first or last rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    Top,
    Bottom,
}

/// An edge from the bottom of one item to the top of another; offsets from their centres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) from_dx: f64,
    pub(super) to: usize,
    pub(super) to_dx: f64,
}

/// A point.
pub(super) type Point = (f64, f64);

/// Where everything is.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Centre (x) and top (y) of each item.
    pub(super) places: Vec<Point>,
    /// Points of each edge, from top to bottom.
    pub(super) paths: Vec<Vec<Point>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// Distance between neighbours of a rank.
const GAP: f64 = 28.0;
/// Distance between a waypoint and its neighbours.
const WAYPOINT_GAP: f64 = 14.0;
/// Height of a line of labels.
pub(super) const LABEL_HEIGHT: f64 = 12.0;
/// Distance between ranks beside the labels: for edges to turn; at the borders of a frame.
const RANK_GAP: f64 = 36.0;
const BORDER_GAP: f64 = 10.0;
/// Rounds of ordering and of placing.
const ROUNDS: usize = 24;
/// With more cells than this, the order is not improved any further.
const MAX_CELLS: usize = 20_000;

/// An item or a waypoint of a long edge.
struct Cell {
    item: Option<usize>,
    width: f64,
    reach: f64,
    x: f64,
}

/// A piece of an edge between neighbouring ranks, by index of its cells.
struct Piece {
    from: usize,
    from_dx: f64,
    to: usize,
    to_dx: f64,
    weight: f64,
}

/// Places items, from top to bottom. Edges go from earlier to later items.
pub(super) fn layered(items: &[Item], edges: &[Edge]) -> Layout {
    if items.is_empty() {
        return Layout::default();
    }
    let ranks = ranks(items, edges);
    let n_ranks = ranks.iter().max().map_or(0, |r| r + 1);
    let mut cells: Vec<Cell> = items
        .iter()
        .enumerate()
        .map(|(i, item)| Cell { item: Some(i), width: item.width, reach: item.reach, x: 0.0 })
        .collect();
    let mut order: Vec<Vec<usize>> = vec![Vec::new(); n_ranks];
    for (item, rank) in ranks.iter().enumerate() {
        order[*rank].push(item);
    }
    let mut pieces: Vec<Piece> = Vec::new();
    let mut routes: Vec<Vec<usize>> = Vec::new();
    for edge in edges {
        let mut route = vec![edge.from];
        for rank in &mut order[ranks[edge.from] + 1..ranks[edge.to]] {
            route.push(cells.len());
            rank.push(cells.len());
            cells.push(Cell { item: None, width: 0.0, reach: 0.0, x: 0.0 });
        }
        route.push(edge.to);
        let n = route.len() - 1;
        for (i, pair) in route.windows(2).enumerate() {
            pieces.push(Piece {
                from: pair[0],
                from_dx: if i == 0 { edge.from_dx } else { 0.0 },
                to: pair[1],
                to_dx: if i + 1 == n { edge.to_dx } else { 0.0 },
                // Long edges are to be straight between their ends, and not to bend short ones.
                weight: if i > 0 && i + 1 < n {
                    8.0
                } else if n > 1 {
                    2.0
                } else {
                    1.0
                },
            });
        }
        routes.push(route);
    }
    let neighbours = Neighbours::new(cells.len(), &pieces);
    if cells.len() <= MAX_CELLS {
        improve_order(&mut order, &pieces, &neighbours, cells.len());
    }
    place(&mut cells, &order, &pieces, &neighbours);
    straighten(&mut cells, &order, edges, &routes);

    // Ranks from top to bottom.
    let mut tops = Vec::new();
    let mut heights = Vec::new();
    let mut leads = Vec::new();
    let mut y = 0.0;
    for (rank, cells_of_rank) in order.iter().enumerate() {
        let of_rank = |rank: &[usize]| -> Vec<Item> {
            rank.iter().filter_map(|c| cells[*c].item).map(|i| items[i]).collect()
        };
        let here = of_rank(cells_of_rank);
        let height = here.iter().map(|i| i.height).fold(0.0, f64::max);
        let labels = here.iter().map(|i| i.labels).max().unwrap_or(0);
        let lead = if labels > 0 { labels as f64 * LABEL_HEIGHT + 4.0 } else { 0.0 };
        tops.push(y);
        heights.push(height);
        leads.push(lead);
        y += height;
        if let Some(next) = order.get(rank + 1) {
            let is = |items: &[Item], pin| items.iter().all(|i| i.pin == Some(pin));
            let is_border = is(&here, Pin::Top) || is(&of_rank(next), Pin::Bottom);
            y += lead + if is_border { BORDER_GAP } else { RANK_GAP };
        }
    }
    let left = cells.iter().map(|c| c.x - c.width / 2.0).fold(f64::INFINITY, f64::min);
    let right =
        cells.iter().map(|c| c.x + (c.width / 2.0).max(c.reach)).fold(f64::NEG_INFINITY, f64::max);
    let mut cell_ranks = vec![0; cells.len()];
    for (rank, cells_of_rank) in order.iter().enumerate() {
        cells_of_rank.iter().for_each(|cell| cell_ranks[*cell] = rank);
    }
    let top = |cell: usize| {
        let rank = cell_ranks[cell];
        match cells[cell].item {
            // Items stand in the middle of their rank.
            Some(i) => tops[rank] + (heights[rank] - items[i].height) / 2.0,
            None => tops[rank],
        }
    };
    let paths = edges
        .iter()
        .zip(&routes)
        .map(|(edge, route)| {
            let (x, rank) = (cells[edge.from].x + edge.from_dx - left, cell_ranks[edge.from]);
            let mut path = vec![(x, top(edge.from) + items[edge.from].height)];
            // Straight down beside the labels, and out of a rank with higher items.
            path.push((x, tops[rank] + heights[rank] + leads[rank]));
            for cell in &route[1..route.len() - 1] {
                let (x, rank) = (cells[*cell].x - left, cell_ranks[*cell]);
                path.push((x, tops[rank]));
                path.push((x, tops[rank] + heights[rank] + leads[rank]));
            }
            let (x, rank) = (cells[edge.to].x + edge.to_dx - left, cell_ranks[edge.to]);
            path.push((x, tops[rank]));
            path.push((x, top(edge.to)));
            path.dedup();
            path
        })
        .collect();
    Layout {
        places: (0..items.len()).map(|i| (cells[i].x - left, top(i))).collect(),
        paths,
        width: right - left,
        height: y,
    }
}

/// Longest path from the sources; sources without pin move down to their first use.
fn ranks(items: &[Item], edges: &[Edge]) -> Vec<usize> {
    let mut ranks = vec![0usize; items.len()];
    let mut by_source: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    let mut has_input = vec![false; items.len()];
    for edge in edges {
        by_source[edge.from].push(edge.to);
        has_input[edge.to] = true;
    }
    // Items stand in an order in which edges go forward, pinned ones aside.
    let mut sequence: Vec<usize> = (0..items.len()).collect();
    sequence.sort_by_key(|i| match items[*i].pin {
        Some(Pin::Top) => 0,
        None => 1,
        Some(Pin::Bottom) => 2,
    });
    for item in &sequence {
        for to in &by_source[*item] {
            ranks[*to] = ranks[*to].max(ranks[*item] + 1);
        }
    }
    for item in sequence.iter().rev().filter(|i| !has_input[**i] && items[**i].pin.is_none()) {
        if let Some(first) = by_source[*item].iter().map(|to| ranks[*to]).min() {
            ranks[*item] = first.saturating_sub(1);
        }
    }
    let has_top = items.iter().any(|i| i.pin == Some(Pin::Top));
    if has_top {
        // Below the pinned ones.
        for (rank, item) in ranks.iter_mut().zip(items) {
            if item.pin != Some(Pin::Top) {
                *rank = (*rank).max(1);
            }
        }
    }
    let last =
        ranks.iter().zip(items).filter(|(_, i)| i.pin != Some(Pin::Bottom)).map(|(r, _)| *r).max();
    for (rank, item) in ranks.iter_mut().zip(items) {
        if item.pin == Some(Pin::Bottom) {
            *rank = last.unwrap_or(0) + 1;
        }
    }
    ranks
}

/// Pieces above and below each cell.
struct Neighbours {
    above: Vec<Vec<usize>>,
    below: Vec<Vec<usize>>,
}

impl Neighbours {
    fn new(n: usize, pieces: &[Piece]) -> Self {
        let mut neighbours = Neighbours { above: vec![Vec::new(); n], below: vec![Vec::new(); n] };
        for (i, piece) in pieces.iter().enumerate() {
            neighbours.below[piece.from].push(i);
            neighbours.above[piece.to].push(i);
        }
        neighbours
    }
}

fn improve_order(order: &mut [Vec<usize>], pieces: &[Piece], neighbours: &Neighbours, n: usize) {
    let mut best = order.to_vec();
    let mut fewest = crossings(order, pieces, neighbours, n);
    for round in 0..ROUNDS {
        if fewest == 0 {
            break;
        }
        let downwards = round % 2 == 0;
        let mut position = vec![0.0; n];
        for rank in order.iter() {
            rank.iter().enumerate().for_each(|(i, cell)| position[*cell] = i as f64);
        }
        let ranks: Vec<usize> = match downwards {
            true => (1..order.len()).collect(),
            false => (0..order.len().saturating_sub(1)).rev().collect(),
        };
        for rank in ranks {
            let mut keyed: Vec<(f64, usize)> = order[rank]
                .iter()
                .map(|cell| {
                    let list =
                        if downwards { &neighbours.above[*cell] } else { &neighbours.below[*cell] };
                    let sum: f64 = list
                        .iter()
                        .map(|p| match downwards {
                            // The offset decides between edges of one item.
                            true => position[pieces[*p].from] + pieces[*p].from_dx * 1e-4,
                            false => position[pieces[*p].to] + pieces[*p].to_dx * 1e-4,
                        })
                        .sum();
                    match list.len() {
                        0 => (position[*cell], *cell),
                        len => (sum / len as f64, *cell),
                    }
                })
                .collect();
            keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
            order[rank] = keyed.into_iter().map(|(_, cell)| cell).collect();
            order[rank].iter().enumerate().for_each(|(i, cell)| position[*cell] = i as f64);
        }
        let now = crossings(order, pieces, neighbours, n);
        if now < fewest {
            fewest = now;
            best = order.to_vec();
        }
    }
    order.clone_from_slice(&best);
}

/// Pairs of pieces that cross, by counting inversions with a Fenwick tree.
fn crossings(order: &[Vec<usize>], pieces: &[Piece], neighbours: &Neighbours, n: usize) -> usize {
    let mut position = vec![0usize; n];
    for rank in order {
        rank.iter().enumerate().for_each(|(i, cell)| position[*cell] = i);
    }
    let mut total = 0;
    for pair in order.windows(2) {
        let mut ends: Vec<usize> = Vec::new();
        for cell in &pair[0] {
            let mut below: Vec<usize> =
                neighbours.below[*cell].iter().map(|p| position[pieces[*p].to]).collect();
            below.sort_unstable();
            ends.extend(below);
        }
        let mut tree = vec![0usize; pair[1].len() + 1];
        for (seen, end) in ends.into_iter().enumerate() {
            // How many before it end at or left of it.
            let mut at = end + 1;
            let mut left = 0;
            while at > 0 {
                left += tree[at];
                at -= at & at.wrapping_neg();
            }
            total += seen - left;
            let mut at = end + 1;
            while at < tree.len() {
                tree[at] += 1;
                at += at & at.wrapping_neg();
            }
        }
    }
    total
}

/// Each rank in turn moves to where its neighbours above, below, or on both sides want it, as near as
/// the order allows.
fn place(cells: &mut [Cell], order: &[Vec<usize>], pieces: &[Piece], neighbours: &Neighbours) {
    for rank in order {
        let mut x = 0.0;
        for (i, cell) in rank.iter().enumerate() {
            if i > 0 {
                x += separation(&cells[rank[i - 1]], &cells[*cell]);
            }
            cells[*cell].x = x;
        }
    }
    for round in 0..ROUNDS {
        let last = round + 2 >= ROUNDS;
        let ranks: Vec<usize> = match round % 2 == 0 {
            true => (0..order.len()).collect(),
            false => (0..order.len()).rev().collect(),
        };
        for rank in ranks {
            let wanted: Vec<(f64, f64)> = order[rank]
                .iter()
                .map(|cell| {
                    let (mut sum, mut weight) = (0.0, 0.0);
                    let mut pull = |target: f64, w: f64| {
                        sum += target * w;
                        weight += w;
                    };
                    if round % 2 == 0 || last {
                        for piece in neighbours.above[*cell].iter().map(|p| &pieces[*p]) {
                            pull(cells[piece.from].x + piece.from_dx - piece.to_dx, piece.weight);
                        }
                    }
                    if round % 2 == 1 || last {
                        for piece in neighbours.below[*cell].iter().map(|p| &pieces[*p]) {
                            pull(cells[piece.to].x + piece.to_dx - piece.from_dx, piece.weight);
                        }
                    }
                    // What nothing pulls stays, lightly.
                    match weight > 0.0 {
                        true => (sum / weight, weight),
                        false => (cells[*cell].x, 0.1),
                    }
                })
                .collect();
            let mut offsets = vec![0.0];
            for pair in order[rank].windows(2) {
                let before = offsets[offsets.len() - 1];
                offsets.push(before + separation(&cells[pair[0]], &cells[pair[1]]));
            }
            for (cell, x) in order[rank].iter().zip(nearest_in_order(&wanted, &offsets)) {
                cells[*cell].x = x;
            }
        }
    }
}

/// Gives the waypoints of each long edge few bends: runs of them share one x where their
/// neighbours leave room.
fn straighten(cells: &mut [Cell], order: &[Vec<usize>], edges: &[Edge], routes: &[Vec<usize>]) {
    let mut place = vec![(0, 0); cells.len()];
    for (rank, of_rank) in order.iter().enumerate() {
        of_rank.iter().enumerate().for_each(|(i, cell)| place[*cell] = (rank, i));
    }
    for (edge, route) in edges.iter().zip(routes) {
        let waypoints = &route[1..route.len() - 1];
        let room: Vec<(f64, f64)> = waypoints
            .iter()
            .map(|cell| {
                let (rank, i) = place[*cell];
                let left = i.checked_sub(1).map(|i| &cells[order[rank][i]]);
                let right = order[rank].get(i + 1).map(|c| &cells[*c]);
                (
                    left.map_or(f64::NEG_INFINITY, |l| l.x + separation(l, &cells[*cell])),
                    right.map_or(f64::INFINITY, |r| r.x - separation(&cells[*cell], r)),
                )
            })
            .collect();
        let mut wish = cells[edge.from].x + edge.from_dx;
        let end = cells[edge.to].x + edge.to_dx;
        let mut at = 0;
        while at < waypoints.len() {
            let (mut low, mut high) = room[at];
            let mut n = 1;
            while let Some((l, h)) = room.get(at + n)
                && low.max(*l) <= high.min(*h)
            {
                (low, high) = (low.max(*l), high.min(*h));
                n += 1;
            }
            if at + n == waypoints.len() {
                wish = end;
            }
            // The room of a waypoint is never empty, but for rounding.
            wish = wish.max(low).min(high);
            waypoints[at..at + n].iter().for_each(|cell| cells[*cell].x = wish);
            at += n;
        }
    }
}

fn separation(left: &Cell, right: &Cell) -> f64 {
    let gap = if left.item.is_none() || right.item.is_none() { WAYPOINT_GAP } else { GAP };
    (left.width / 2.0).max(left.reach) + right.width / 2.0 + gap
}

/// Places nearest to the wanted ones (with weights) that keep at least the distances of the
/// offsets: isotonic regression by pooling adjacent violators.
fn nearest_in_order(wanted: &[(f64, f64)], offsets: &[f64]) -> Vec<f64> {
    // Sum of weighted targets, weight, number of members.
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    for ((target, weight), offset) in wanted.iter().zip(offsets) {
        let mut pool = ((target - offset) * weight, *weight, 1);
        while let Some(before) = pools.last() {
            if before.0 / before.1 <= pool.0 / pool.1 {
                break;
            }
            pool = (before.0 + pool.0, before.1 + pool.1, before.2 + pool.2);
            pools.pop();
        }
        pools.push(pool);
    }
    let bases = pools.iter().flat_map(|(sum, weight, n)| std::iter::repeat_n(sum / weight, *n));
    bases.zip(offsets).map(|(base, offset)| base + offset).collect()
}

#[cfg(test)]
mod tests {
    use super::{Edge, Item, layered, nearest_in_order};

    fn item(width: f64) -> Item {
        Item { width, height: 20.0, reach: 0.0, labels: 0, pin: None }
    }

    fn edge(from: usize, to: usize) -> Edge {
        Edge { from, from_dx: 0.0, to, to_dx: 0.0 }
    }

    #[test]
    fn order_is_kept_and_wishes_are_met() {
        assert_eq!(nearest_in_order(&[(5.0, 1.0), (20.0, 1.0)], &[0.0, 10.0]), [5.0, 20.0]);
        assert_eq!(nearest_in_order(&[(5.0, 1.0), (5.0, 1.0)], &[0.0, 10.0]), [0.0, 10.0]);
        assert_eq!(nearest_in_order(&[(0.0, 3.0), (0.0, 1.0)], &[0.0, 8.0]), [-2.0, 6.0]);
    }

    #[test]
    fn crossings_are_undone_and_nothing_overlaps() {
        let items = vec![item(60.0); 6];
        let edges = [edge(0, 5), edge(1, 4), edge(2, 3)];
        let layout = layered(&items, &edges);
        let x = |i: usize| layout.places[i].0;
        for (from, to) in [(0, 5), (1, 4), (2, 3)] {
            assert!((x(from) - x(to)).abs() < 1.0, "{:?}", layout.places);
        }
        for (a, b) in [(0, 1), (1, 2), (0, 2)] {
            assert!((x(a) - x(b)).abs() >= 60.0);
        }
        assert_eq!(layout.height, 40.0 + super::RANK_GAP);
    }

    #[test]
    fn long_edges_go_around_what_stands_between() {
        let items = vec![item(100.0); 3];
        let edges = [edge(0, 1), edge(1, 2), edge(0, 2)];
        let layout = layered(&items, &edges);
        let waypoint = layout.paths[2][2];
        assert!((waypoint.0 - layout.places[1].0).abs() >= 50.0, "{layout:?}");
    }
}
