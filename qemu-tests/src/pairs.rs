// SPDX-License-Identifier: GPL-2.0

//! Choosing few combinations that contain every pair of choices.

/// A combination: for each dimension, the number of the choice.
pub type Combination = Vec<usize>;

/// All combinations of dimensions with so many choices each.
pub fn all(sizes: &[usize]) -> Vec<Combination> {
    sizes.iter().fold(vec![vec![]], |begun, &size| {
        begun
            .iter()
            .flat_map(|combination| {
                (0..size).map(|choice| {
                    let mut longer = combination.clone();
                    longer.push(choice);
                    longer
                })
            })
            .collect()
    })
}

/// The pairs in a combination: two dimensions, and the choice in each.
fn pairs_of(combination: &[usize]) -> impl Iterator<Item = (usize, usize, usize, usize)> + '_ {
    (0..combination.len()).flat_map(move |i| {
        (i + 1..combination.len()).map(move |j| (i, j, combination[i], combination[j]))
    })
}

/// Few of the combinations that are `possible`, such that each pair of choices that is in some
/// possible combination is in one of these. Always the same for the same arguments.
pub fn cover(sizes: &[usize], possible: impl Fn(&[usize]) -> bool) -> Vec<Combination> {
    let candidates: Vec<_> = all(sizes).into_iter().filter(|c| possible(c)).collect();
    let mut missing: std::collections::BTreeSet<_> = candidates
        .iter()
        .flat_map(|candidate| pairs_of(candidate))
        .collect();
    let mut chosen = Vec::new();
    while !missing.is_empty() {
        // Greedy: the candidate with most new pairs; the first one of several.
        let gain = |c: &Combination| pairs_of(c).filter(|pair| missing.contains(pair)).count();
        let Some(best) = candidates
            .iter()
            .rev()
            .max_by_key(|candidate| gain(candidate))
        else {
            break;
        };
        for pair in pairs_of(best) {
            missing.remove(&pair);
        }
        chosen.push(best.clone());
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_possible_pair_is_covered() {
        let sizes = [2, 3, 2, 3, 2, 2];
        let possible = |c: &[usize]| !(c[0] == 1 && c[1] == 2);
        let chosen = cover(&sizes, possible);
        assert!(chosen.len() <= 16, "{} combinations", chosen.len());
        assert!(chosen.iter().all(|c| possible(c)));
        for wanted in all(&sizes).iter().filter(|c| possible(c)) {
            for pair in pairs_of(wanted) {
                assert!(
                    chosen.iter().any(|c| pairs_of(c).any(|p| p == pair)),
                    "{pair:?}"
                );
            }
        }
    }

    #[test]
    fn all_combinations() {
        assert_eq!(all(&[2, 2]), [[0, 0], [0, 1], [1, 0], [1, 1]]);
        assert_eq!(all(&[]), [Vec::<usize>::new()]);
    }
}
