use std::collections::HashMap;

use tlog_tiles::tlog;

use super::*;
use crate::ledger::log::edge::{Edge, Whole};

/// The other implementation keeps hashes of all levels in one sequence.
struct Theirs(Vec<tlog::Hash>);

impl tlog::HashReader for Theirs {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
    }
}

fn both(size: u64) -> (Whole, Theirs, HashMap<u64, Digest>) {
    let (mut edge, mut whole, mut theirs, mut roots) =
        (Edge::default(), Whole::default(), Theirs(Vec::new()), HashMap::new());
    for n in 0..size {
        roots.insert(n, edge.root());
        let entry = n.to_be_bytes();
        assert_eq!(leaf_hash(&entry).0, tlog::record_hash(&entry).0);
        whole.0.extend(edge.push(leaf_hash(&entry)).into_iter().map(|(l, i, hash)| ((l, i), hash)));
        let new = tlog::stored_hashes(n, &entry, &theirs).unwrap();
        theirs.0.extend(new);
    }
    roots.insert(size, edge.root());
    (whole, theirs, roots)
}

fn hash(digest: Digest) -> tlog::Hash {
    tlog::Hash(digest.0)
}

#[test]
fn roots_and_proofs_are_those_of_another_implementation() {
    let (whole, theirs, roots) = both(70);
    for size in 1..=70u64 {
        assert_eq!(tlog::tree_hash(size, &theirs).unwrap().0, roots[&size].0);
        for index in 0..size {
            let ours = inclusion_proof(index, size, &whole).unwrap();
            let expected = tlog::prove_record(size, index, &theirs).unwrap();
            assert_eq!(ours.iter().map(|digest| hash(*digest)).collect::<Vec<_>>(), expected);
            let leaf = leaf_hash(&index.to_be_bytes());
            verify_inclusion(leaf, index, size, &ours, roots[&size]).unwrap();
            let wrong = leaf_hash(b"other");
            assert_eq!(verify_inclusion(wrong, index, size, &ours, roots[&size]), Err(ProofError::Root));
            assert!(verify_inclusion(leaf, index ^ 1, size, &ours, roots[&size]).is_err() || size == 1);
            let longer: Vec<_> = ours.iter().copied().chain([wrong]).collect();
            assert!(verify_inclusion(leaf, index, size, &longer, roots[&size]).is_err());
            if let Some((_, shorter)) = ours.split_last() {
                assert!(verify_inclusion(leaf, index, size, shorter, roots[&size]).is_err());
            }
        }
        for old in 1..=size {
            let ours = consistency_proof(old, size, &whole).unwrap();
            let expected = tlog::prove_tree(size, old, &theirs).unwrap();
            assert_eq!(ours.iter().map(|digest| hash(*digest)).collect::<Vec<_>>(), expected, "{old} {size}");
            verify_consistency(old, roots[&old], size, roots[&size], &ours).unwrap();
            let wrong = leaf_hash(b"other");
            assert!(verify_consistency(old, wrong, size, roots[&size], &ours).is_err());
            assert!(verify_consistency(old, roots[&old], size, wrong, &ours).is_err());
            for at in 0..ours.len() {
                let mut bad = ours.clone();
                bad[at].0[0] ^= 1;
                assert!(verify_consistency(old, roots[&old], size, roots[&size], &bad).is_err());
            }
        }
        verify_consistency(0, empty_root(), size, roots[&size], &[]).unwrap();
        assert!(verify_consistency(size, roots[&size], size - 1, roots[&(size - 1)], &[]).is_err());
    }
    assert_eq!(verify_inclusion(leaf_hash(b""), 1, 1, &[], roots[&1]), Err(ProofError::Shape));
}

#[test]
fn proofs_hold_around_the_borders_of_tiles() {
    let (whole, theirs, roots) = both(66_100);
    for size in [255, 256, 257, 511, 513, 1000, 65_535, 65_536, 65_537, 66_100u64] {
        assert_eq!(tlog::tree_hash(size, &theirs).unwrap().0, roots[&size].0);
        for index in [0, 1, 200, 254, 255, 256, 511, 512, 65_535, 65_536, size - 1] {
            if index >= size {
                continue;
            }
            let proof = inclusion_proof(index, size, &whole).unwrap();
            verify_inclusion(leaf_hash(&index.to_be_bytes()), index, size, &proof, roots[&size]).unwrap();
            let theirs: Vec<_> = proof.iter().map(|digest| hash(*digest)).collect();
            tlog::check_record(
                &theirs,
                size,
                hash(roots[&size]),
                index,
                tlog::record_hash(&index.to_be_bytes()),
            )
            .unwrap();
        }
        for old in [1, 100, 255, 256, 257, 512, 65_535, 65_536, size] {
            if old <= size {
                let proof = consistency_proof(old, size, &whole).unwrap();
                verify_consistency(old, roots[&old], size, roots[&size], &proof).unwrap();
            }
        }
    }
}
