// SPDX-License-Identifier: GPL-2.0

//! Sorts and searches files that kcmp(2) compares.
//!
//! `slice::sort_by()` may panic if the order is not total. If files are closed and opened
//! meanwhile, it is not.

use std::cmp::Ordering;
use std::collections::VecDeque;

/// The result of a comparison.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    Less,
    Equal,
    Greater,
    /// The left side is not there any more.
    LeftGone,
    /// The right side is not there any more.
    RightGone,
}

impl From<Ordering> for Answer {
    fn from(ordering: Ordering) -> Answer {
        match ordering {
            Ordering::Less => Answer::Less,
            Ordering::Equal => Answer::Equal,
            Ordering::Greater => Answer::Greater,
        }
    }
}

/// Items that compare equal: the places where one file is open. Never empty.
type Equals<T> = Vec<T>;

/// Sorts items by merging, and groups those that are equal. Drops those that are gone.
pub fn sort<T, E>(
    items: impl IntoIterator<Item = T>,
    mut compare: impl FnMut(&T, &T) -> Result<Answer, E>,
) -> Result<Vec<Equals<T>>, E> {
    let mut runs: VecDeque<_> = items.into_iter().map(|item| vec![vec![item]]).collect();
    while let Some(left) = runs.pop_front() {
        let Some(right) = runs.pop_front() else {
            return Ok(left);
        };
        runs.push_back(merge(left, right, &mut compare)?);
    }
    Ok(Vec::new())
}

/// The maximum number of comparisons in a binary search of `len` items.
pub fn depth(len: usize) -> usize {
    len.checked_ilog2().map_or(0, |depth| depth as usize + 1)
}

fn merge<T, E>(
    left: Vec<Equals<T>>,
    right: Vec<Equals<T>>,
    compare: &mut impl FnMut(&T, &T) -> Result<Answer, E>,
) -> Result<Vec<Equals<T>>, E> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter(), right.into_iter());
    let (mut next_left, mut next_right) = (left.next(), right.next());
    while let (Some(l), Some(r)) = (&mut next_left, &mut next_right) {
        match compare(&l[0], &r[0])? {
            Answer::Less => merged.extend(std::mem::replace(&mut next_left, left.next())),
            Answer::Greater => merged.extend(std::mem::replace(&mut next_right, right.next())),
            Answer::Equal => {
                l.append(r);
                merged.extend(std::mem::replace(&mut next_left, left.next()));
                next_right = right.next();
            }
            Answer::LeftGone => {
                l.swap_remove(0);
                if l.is_empty() {
                    next_left = left.next();
                }
            }
            Answer::RightGone => {
                r.swap_remove(0);
                if r.is_empty() {
                    next_right = right.next();
                }
            }
        }
    }
    merged.extend(next_left.into_iter().chain(left));
    merged.extend(next_right.into_iter().chain(right));
    Ok(merged)
}

/// Binary search. `compare` compares an item (left) with the one to find (right). Items that are
/// gone are removed; [`Answer::RightGone`] ends the search.
pub fn search<T, E>(
    sorted: &mut Vec<Equals<T>>,
    mut compare: impl FnMut(&T) -> Result<Answer, E>,
) -> Result<Option<&Equals<T>>, E> {
    let (mut low, mut high) = (0, sorted.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let items = &mut sorted[middle];
        match compare(&items[0])? {
            Answer::Less => low = middle + 1,
            Answer::Greater => high = middle,
            Answer::Equal => return Ok(Some(&sorted[middle])),
            Answer::RightGone => return Ok(None),
            Answer::LeftGone => {
                items.swap_remove(0);
                if items.is_empty() {
                    sorted.remove(middle);
                    high -= 1;
                }
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// Deterministic.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
        *state >> 33
    }

    #[test]
    fn sorts_joins_and_finds() {
        let mut state = 1;
        for len in [0, 1, 2, 3, 100, 1000] {
            // A value, and an index that tells equal values apart.
            let items: Vec<_> = (0..len).map(|i| (random(&mut state) % 300, i)).collect();
            let by_value = |a: &(u64, u64), b: &(u64, u64)| -> Result<_, Infallible> {
                Ok(a.0.cmp(&b.0).into())
            };
            let Ok(mut sorted) = sort(items.clone(), by_value);
            assert!(sorted.windows(2).all(|w| w[0][0].0 < w[1][0].0));
            assert_eq!(sorted.iter().map(Vec::len).sum::<usize>(), items.len());
            for value in 0..300 {
                let Ok(found) = search(&mut sorted, |item| by_value(item, &(value, 0)));
                let found = found.map_or(0, |equals| {
                    assert!(equals.iter().all(|item| item.0 == value));
                    equals.len()
                });
                let expected = items.iter().filter(|item| item.0 == value).count();
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn sorts_with_few_comparisons() {
        let mut state = 2;
        let mut comparisons = 0;
        let items: Vec<_> = (0..10_000).map(|_| random(&mut state)).collect();
        let Ok(_) = sort(items, |a, b| -> Result<_, Infallible> {
            comparisons += 1;
            Ok(a.cmp(b).into())
        });
        // log2(10,000!) is 118,458.
        assert!(comparisons < 125_000, "{comparisons}");
    }

    #[test]
    fn drops_what_is_gone() {
        let gone = |item: &u32| item % 3 == 0;
        let Ok(mut sorted) = sort(0..100u32, |a, b| -> Result<_, Infallible> {
            Ok(if gone(a) {
                Answer::LeftGone
            } else if gone(b) {
                Answer::RightGone
            } else {
                a.cmp(b).into()
            })
        });
        assert_eq!(sorted.len(), 66);
        // Then even numbers vanish.
        for value in 0..100 {
            let Ok(found) = search(&mut sorted, |item| -> Result<_, Infallible> {
                Ok(match item % 2 {
                    0 => Answer::LeftGone,
                    _ => item.cmp(&value).into(),
                })
            });
            assert_eq!(found.is_some(), value % 3 != 0 && value % 2 != 0);
        }
    }

    #[test]
    fn survives_any_answers() {
        const ANSWERS: [Answer; 5] = [
            Answer::Less,
            Answer::Equal,
            Answer::Greater,
            Answer::LeftGone,
            Answer::RightGone,
        ];
        let mut state = 3;
        for len in 0..200 {
            let mut any =
                || -> Result<_, Infallible> { Ok(ANSWERS[(random(&mut state) % 5) as usize]) };
            let Ok(mut sorted) = sort(0..len, |_, _| any());
            for _ in 0..100 {
                let Ok(_) = search(&mut sorted, |_| any());
            }
            assert!(sorted.iter().all(|equals| !equals.is_empty()));
        }
    }
}
