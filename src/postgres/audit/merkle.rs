//! Merkle tree hashes of RFC 6962 section 2.1, over SHA-256, made in one pass with memory for the logarithm of what passes.

use aws_lc_rs::digest::{Context, SHA256};

pub(super) type Hash = [u8; 32];

/// Leaves and nodes are hashed under different first bytes, so that no leaf can pass for a node.
const LEAF: u8 = 0;
const NODE: u8 = 1;

/// A tree that grows to the right.
#[derive(Default)]
pub(super) struct Tree {
    /// Roots of the perfect subtrees of what came so far, the widest first.
    subtrees: Vec<Hash>,
    leaves: u64,
}

impl Tree {
    /// Adds a leaf that consists of these parts, one behind the other.
    pub(super) fn push(&mut self, parts: &[&[u8]]) {
        let mut hash = hash(LEAF, parts);
        // Every trailing one of the old count is a subtree as wide as the one that is being made.
        for _ in 0..self.leaves.trailing_ones() {
            let left = self.subtrees.pop().expect("invariant: a subtree for every one in the count of leaves");
            hash = node(&left, &hash);
        }
        self.subtrees.push(hash);
        self.leaves += 1;
    }

    pub(super) fn root(self) -> Hash {
        let mut right_to_left = self.subtrees.into_iter().rev();
        let Some(rightmost) = right_to_left.next() else { return crate::secrets::sha256(&[]) };
        right_to_left.fold(rightmost, |right, left| node(&left, &right))
    }
}

fn node(left: &Hash, right: &Hash) -> Hash {
    hash(NODE, &[left, right])
}

fn hash(kind: u8, parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[kind]);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().expect("invariant: a SHA-256 digest has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(hash: &Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The leaves and roots that the reference implementation of certificate transparency (RFC 6962) is tested with.
    #[test]
    fn the_published_trees_have_their_published_roots() {
        let leaves: [&[u8]; 8] = [
            b"",
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        for (size, root) in roots.iter().enumerate() {
            let mut tree = Tree::default();
            leaves[..size].iter().for_each(|leaf| tree.push(&[leaf]));
            assert_eq!(hex(&tree.root()), *root, "{size} leaves");
        }
    }

    /// The definition, written down as the RFC words it: split at the largest power of two that is smaller than the size.
    fn by_definition(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => crate::secrets::sha256(&[]),
            [leaf] => hash(LEAF, &[leaf]),
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node(&by_definition(left), &by_definition(right))
            }
        }
    }

    #[test]
    fn growing_gives_the_tree_of_the_definition() {
        let leaves: Vec<Vec<u8>> = (0..300_u32).map(|n| n.to_be_bytes().to_vec()).collect();
        for size in 0..leaves.len() {
            let mut tree = Tree::default();
            leaves[..size].iter().for_each(|leaf| tree.push(&[leaf]));
            assert_eq!(tree.root(), by_definition(&leaves[..size]), "{size} leaves");
        }
    }
}
