//! Points by place: which lie within a distance of another, and which free one is the nearest.
//!
//! The tree halves its points by count, so its depth follows from their number alone: points that
//! coincide, or lie astronomically far apart, make it neither deep nor slow.

use std::ops::ControlFlow;

use super::Coordinate;

/// Points in a leaf.
const LEAF: usize = 8;
/// Not an index of a point.
const NONE: u32 = u32::MAX;

type Place = [f64; 2];

fn place(point: &Coordinate) -> Place {
    [point.x_mic_px, point.y_mic_px]
}

fn squared_between(a: Place, b: Place) -> f64 {
    (a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1])
}

/// Points of one micrograph, to be searched by place. They keep their indices.
#[derive(Debug)]
pub struct Tree {
    points: Vec<Place>,
    /// Indices of points, those of a node side by side.
    order: Vec<u32>,
    /// Each after its parent.
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    low: Place,
    high: Place,
    /// Its part of the order.
    start: usize,
    end: usize,
    parent: usize,
    /// The left child, with the right one behind it; none in a leaf.
    left: Option<usize>,
    /// The least index of its points.
    first: u32,
}

impl Node {
    fn over(points: &[Place], order: &[u32], (start, end): (usize, usize), parent: usize) -> Node {
        let own = &order[start..end];
        let range = |axis: usize| {
            let values = own.iter().map(|&index| points[index as usize][axis]);
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)))
        };
        let ((low_x, high_x), (low_y, high_y)) = (range(0), range(1));
        let first = own.iter().copied().min().unwrap_or(NONE);
        let (low, high) = ([low_x, low_y], [high_x, high_y]);
        Node { low, high, start, end, parent, left: None, first }
    }

    /// The squared distance to the nearest place in its box. Rounding is monotonic, so it is at
    /// most the computed distance to any of its points.
    fn squared_to(&self, at: Place) -> f64 {
        let inside = [0, 1].map(|axis| at[axis].max(self.low[axis]).min(self.high[axis]));
        squared_between(at, inside)
    }
}

impl Tree {
    /// A tree of these points.
    pub fn of(points: &[Coordinate]) -> Tree {
        let points: Vec<Place> = points.iter().map(place).collect();
        let mut order: Vec<u32> = (0..points.len() as u32).collect();
        let mut nodes = vec![Node::over(&points, &order, (0, points.len()), 0)];
        let mut next = 0;
        while let Some(Node { low, high, start, end, .. }) = nodes.get(next) {
            let (start, end) = (*start, *end);
            if end - start > LEAF {
                let axis = usize::from(high[1] - low[1] > high[0] - low[0]);
                let middle = (end - start) / 2;
                order[start..end].select_nth_unstable_by(middle, |a, b| {
                    let along = |index: &u32| points[*index as usize][axis];
                    along(a).total_cmp(&along(b)).then(a.cmp(b))
                });
                let middle = start + middle;
                nodes[next].left = Some(nodes.len());
                nodes.push(Node::over(&points, &order, (start, middle), next));
                nodes.push(Node::over(&points, &order, (middle, end), next));
            }
            next += 1;
        }
        Tree { points, order, nodes }
    }

    /// How many points it holds.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Calls `found` with the squared distance and the index of each point at most √`squared` from
    /// `at`, in no particular order, until it breaks off.
    pub fn within<B>(
        &self,
        at: &Coordinate,
        squared: f64,
        mut found: impl FnMut(f64, usize) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let at = place(at);
        let mut open = vec![0];
        while let Some(node) = open.pop().map(|index: usize| &self.nodes[index]) {
            if node.squared_to(at) > squared {
                continue;
            }
            match node.left {
                Some(left) => open.extend([left + 1, left]),
                None => {
                    for &index in &self.order[node.start..node.end] {
                        let distance = squared_between(at, self.points[index as usize]);
                        if distance <= squared {
                            found(distance, index as usize)?;
                        }
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether a point with an index below that of `index` lies at most √`squared` from it.
    pub fn has_earlier(&self, index: usize, squared: f64) -> bool {
        let at = self.points[index];
        let mut open = vec![0];
        while let Some(node) = open.pop().map(|index: usize| &self.nodes[index]) {
            if node.first as usize >= index || node.squared_to(at) > squared {
                continue;
            }
            match node.left {
                Some(left) => open.extend([left + 1, left]),
                None => {
                    let near = |other: &u32| {
                        (*other as usize) < index
                            && squared_between(at, self.points[*other as usize]) <= squared
                    };
                    if self.order[node.start..node.end].iter().any(near) {
                        return true;
                    }
                }
            }
        }
        false
    }
}

/// The points of a tree that nobody has taken yet.
#[derive(Debug)]
pub struct Free<'a> {
    tree: &'a Tree,
    open: Vec<bool>,
    /// The least free index of each node.
    first: Vec<u32>,
    /// The leaf of each point.
    leaf: Vec<u32>,
}

impl<'a> Free<'a> {
    /// Those for which `counts` holds.
    pub fn of(tree: &'a Tree, counts: impl Fn(usize) -> bool) -> Free<'a> {
        let open: Vec<bool> = (0..tree.len()).map(counts).collect();
        let mut leaf = vec![0; tree.len()];
        let mut first = vec![NONE; tree.nodes.len()];
        // Children stand behind their parents.
        for (at, node) in tree.nodes.iter().enumerate().rev() {
            if let Some(left) = node.left {
                first[at] = first[left].min(first[left + 1]);
                continue;
            }
            for &index in &tree.order[node.start..node.end] {
                leaf[index as usize] = at as u32;
                if open[index as usize] {
                    first[at] = first[at].min(index);
                }
            }
        }
        Free { tree, open, first, leaf }
    }

    /// Whether nobody has taken a point.
    pub fn is_free(&self, index: usize) -> bool {
        self.open[index]
    }

    /// Takes a point.
    pub fn take(&mut self, index: usize) {
        self.open[index] = false;
        let mut at = self.leaf[index] as usize;
        loop {
            let node = &self.tree.nodes[at];
            let own = match node.left {
                Some(left) => self.first[left].min(self.first[left + 1]),
                None => {
                    let own = self.tree.order[node.start..node.end].iter().copied();
                    own.filter(|&index| self.open[index as usize]).min().unwrap_or(NONE)
                }
            };
            if self.first[at] == own {
                return;
            }
            self.first[at] = own;
            at = node.parent;
        }
    }

    /// The nearest free point at most √`squared` from `at`: its squared distance and index, the
    /// least index of those that are equally near.
    pub fn nearest(&self, at: &Coordinate, squared: f64) -> Option<(f64, usize)> {
        let mut best = (squared, NONE);
        self.search(0, place(at), &mut best);
        (best.1 != NONE).then_some((best.0, best.1 as usize))
    }

    fn search(&self, at_node: usize, at: Place, best: &mut (f64, u32)) {
        let is_better = |own: (f64, u32), best: (f64, u32)| {
            own.1 != NONE && (own.0 < best.0 || (own.0 == best.0 && own.1 < best.1))
        };
        let node = &self.tree.nodes[at_node];
        let Some(left) = node.left else {
            for &index in &self.tree.order[node.start..node.end] {
                let own = (squared_between(at, self.tree.points[index as usize]), index);
                if self.open[index as usize] && is_better(own, *best) {
                    *best = own;
                }
            }
            return;
        };
        let bound = |child: usize| (self.tree.nodes[child].squared_to(at), self.first[child]);
        let (mut near, mut far) = ((bound(left), left), (bound(left + 1), left + 1));
        if is_better(far.0, near.0) || near.0.1 == NONE {
            (near, far) = (far, near);
        }
        for (bound, child) in [near, far] {
            if is_better(bound, *best) {
                self.search(child, at, best);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_exactly_the_distance_are_near() {
        let at = |x: f64, y: f64| Coordinate { x_mic_px: x, y_mic_px: y, score: None };
        let tree = Tree::of(&[at(0.0, 0.0), at(3.0, 4.0)]);
        assert!(tree.has_earlier(1, 25.0) && !tree.has_earlier(1, 24.9));
        assert!(!tree.has_earlier(0, 25.0), "the other comes later");
        let count = |squared: f64| {
            let mut count = 0;
            let _ = tree.within(&at(0.0, 0.0), squared, |_, _| {
                count += 1;
                ControlFlow::<()>::Continue(())
            });
            count
        };
        assert_eq!((count(25.0), count(24.9)), (2, 1));
        let mut free = Free::of(&tree, |_| true);
        assert_eq!(free.nearest(&at(3.0, 0.0), 9.0), Some((9.0, 0)));
        assert_eq!(free.nearest(&at(3.0, 0.0), 8.9), None);
        free.take(0);
        assert_eq!(free.nearest(&at(3.0, 0.0), 16.0), Some((16.0, 1)));
        assert!(tree.len() == 2 && !tree.is_empty() && Tree::of(&[]).is_empty());
    }
}
