//! Beginnings of texts with what the KV cache held for them, so that a text that begins like an earlier one goes
//! on from there instead of being read again.
//!
//! What a cache holds for a token depends on the tokens before it alone, so it can be taken from any text with the
//! same beginning, to the bit. Beginnings are the paths of a radix tree: what texts have in common is there once.
//! When there is more than the budget, the leaf that was used longest ago goes.
//!
//! Source: the tree and its eviction as RadixAttention, Zheng et al. 2023, arXiv:2312.07104, section 3.

use std::collections::BTreeMap;
use std::ops::Range;

/// The node that all texts begin at.
const ROOT: usize = 0;

/// Some tokens that follow those of the parent.
#[derive(Default)]
struct Node {
    tokens: Vec<u32>,
    /// Per cache, the slots of the tokens.
    slots: Vec<Vec<u8>>,
    parent: usize,
    /// By their first tokens.
    children: BTreeMap<u32, usize>,
    /// When it was last on a path, in uses of the tree.
    used: u64,
}

/// Beginnings of texts, up to a number of bytes.
pub(super) struct PrefixCache {
    /// Bytes that a token takes in each cache.
    token_bytes: Vec<usize>,
    budget: usize,
    nodes: Vec<Node>,
    /// Places of nodes that are free.
    free: Vec<usize>,
    n_bytes: usize,
    n_uses: u64,
}

/// A node of a path, the first of its tokens counted from the start of the text, and how many of them match.
struct Step {
    node: usize,
    start: usize,
    matched: usize,
}

impl PrefixCache {
    /// Nothing yet; `token_bytes` is what a token takes in each cache.
    pub fn new(token_bytes: Vec<usize>, budget: usize) -> Self {
        let nodes = vec![Node::default()];
        PrefixCache { token_bytes, budget, nodes, free: Vec::new(), n_bytes: 0, n_uses: 0 }
    }

    /// The bytes that are held.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// The nodes from the root along a text, but for the root.
    fn path(&self, ids: &[u32]) -> Vec<Step> {
        let (mut node, mut at, mut path) = (ROOT, 0, Vec::new());
        while let Some(child) = ids.get(at).and_then(|id| self.nodes[node].children.get(id)) {
            let tokens = &self.nodes[*child].tokens;
            let matched = tokens.iter().zip(&ids[at..]).take_while(|(a, b)| a == b).count();
            path.push(Step { node: *child, start: at, matched });
            (node, at) = (*child, at + matched);
            if matched < tokens.len() {
                break;
            }
        }
        path
    }

    /// How many of the first tokens of a text are here.
    pub fn longest(&self, ids: &[u32]) -> usize {
        self.path(ids).last().map_or(0, |step| step.start + step.matched)
    }

    /// Gives the slots of the tokens `range` of a text, which are here, to `put`: the first slot and the bytes of
    /// each cache, piece by piece.
    pub fn read(&mut self, ids: &[u32], range: Range<usize>, mut put: impl FnMut(usize, &[&[u8]])) {
        self.n_uses += 1;
        for Step { node, start, matched } in self.path(&ids[..range.end.min(ids.len())]) {
            let node = &mut self.nodes[node];
            node.used = self.n_uses;
            let (from, to) = (range.start.clamp(start, start + matched), start + matched);
            if from == to {
                continue;
            }
            let slots: Vec<&[u8]> = node
                .slots
                .iter()
                .zip(&self.token_bytes)
                .map(|(slots, bytes)| &slots[(from - start) * bytes..(to - start) * bytes])
                .collect();
            put(from, &slots);
        }
    }

    /// Keeps a beginning; `slots` gives what each cache holds for some of its tokens. Of one that is longer than
    /// the budget the first part is kept.
    pub fn insert(&mut self, ids: &[u32], slots: impl FnOnce(Range<usize>) -> Vec<Vec<u8>>) {
        let per_token: usize = self.token_bytes.iter().sum();
        // Of a model without a cache there is nothing to keep.
        let room = self.budget.checked_div(per_token).unwrap_or(0);
        let ids = &ids[..ids.len().min(room)];
        self.n_uses += 1;
        let path = self.path(ids);
        for step in &path {
            self.nodes[step.node].used = self.n_uses;
        }
        let (mut parent, known) = match path.last() {
            Some(step) => (step.node, step.start + step.matched),
            None => (ROOT, 0),
        };
        if known == ids.len() {
            return;
        }
        if let Some(Step { node, matched, .. }) = path.last()
            && *matched < self.nodes[*node].tokens.len()
        {
            parent = self.split(*node, *matched);
        }
        let slots = slots(known..ids.len());
        self.n_bytes += slots.iter().map(Vec::len).sum::<usize>();
        let tokens = ids[known..].to_vec();
        let used = self.n_uses;
        self.add(Node { tokens, slots, parent, used, children: BTreeMap::new() });
        while self.n_bytes > self.budget && self.evict() {}
    }

    /// Puts a node below its parent.
    fn add(&mut self, node: Node) -> usize {
        let (parent, first) = (node.parent, node.tokens[0]);
        let place = match self.free.pop() {
            Some(place) => {
                self.nodes[place] = node;
                place
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        self.nodes[parent].children.insert(first, place);
        place
    }

    /// Splits a node behind its first `n` tokens, of which there are more; the result is the node of those.
    fn split(&mut self, node: usize, n: usize) -> usize {
        let lower = &mut self.nodes[node];
        let rest = lower.tokens.split_off(n);
        let tokens = std::mem::replace(&mut lower.tokens, rest);
        let slots = lower.slots.iter_mut().zip(&self.token_bytes).map(|(slots, bytes)| {
            let rest = slots.split_off(n * bytes);
            std::mem::replace(slots, rest)
        });
        let slots = slots.collect();
        let (parent, used, first) = (lower.parent, lower.used, lower.tokens[0]);
        let children = BTreeMap::from([(first, node)]);
        let upper = self.add(Node { tokens, slots, parent, used, children });
        self.nodes[node].parent = upper;
        upper
    }

    /// Removes the leaf that was used longest ago. False if there is none.
    fn evict(&mut self) -> bool {
        let leaves = (ROOT + 1..self.nodes.len())
            .filter(|n| self.nodes[*n].children.is_empty() && !self.nodes[*n].tokens.is_empty());
        let Some(oldest) = leaves.min_by_key(|n| self.nodes[*n].used) else { return false };
        let node = std::mem::take(&mut self.nodes[oldest]);
        self.nodes[node.parent].children.remove(&node.tokens[0]);
        self.n_bytes -= node.slots.iter().map(Vec::len).sum::<usize>();
        self.free.push(oldest);
        true
    }
}

#[cfg(test)]
mod tests;
