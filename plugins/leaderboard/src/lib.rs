//! `Leaderboard`: members ranked by score.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use steward_guest::prelude::*;

/// Members and their scores, kept in both orders.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(String, f64)>", into = "Vec<(String, f64)>")]
pub struct Leaderboard {
    scores: BTreeMap<String, Score>,
    /// Highest score first; among equals, names in order.
    ranking: BTreeSet<(Reverse<Score>, String)>,
}

/// A score that orders: no NaN gets in, and minus zero is zero.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Score(f64);

impl Eq for Score {}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Members ranked by score, the highest first; members of equal score in the order of their names.
///
/// Ranks count from 1. Rows are `(rank, member, score)`.
#[object(version = "1.0.0")]
impl Leaderboard {
    /// An empty board.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a member's score and returns its rank. With `best`, a score below the member's own changes nothing.
    pub fn submit(&mut self, member: &str, score: f64, #[default(false)] best: bool) -> Result<usize> {
        let score = check(score)?;
        if !(best && self.scores.get(member).is_some_and(|own| *own >= score)) {
            self.set(member, score);
        }
        self.rank(member)
    }

    /// Adds to a member's score, which starts at 0, and returns the sum.
    pub fn add(&mut self, member: &str, #[default(1.0)] points: f64) -> Result<f64> {
        let sum = check(self.scores.get(member).map_or(0.0, |score| score.0) + check(points)?.0)?;
        self.set(member, sum);
        Ok(sum.0)
    }

    /// Takes a member off the board; says whether it was there.
    pub fn remove(&mut self, member: &str) -> bool {
        match self.scores.remove_entry(member) {
            Some((member, score)) => self.ranking.remove(&(Reverse(score), member)),
            None => false,
        }
    }

    /// The first `n` rows.
    pub fn top(&self, #[default(10)] n: usize) -> Vec<(usize, &str, f64)> {
        self.rows(0, n)
    }

    /// A member's rank. Raises `KeyError` for one that is not there.
    pub fn rank(&self, member: &str) -> Result<usize> {
        let score = self.own(member)?;
        let row = (Reverse(score), member.to_owned());
        Ok(self.ranking.range(..row).count() + 1)
    }

    /// A member's score. Raises `KeyError` for one that is not there.
    pub fn score(&self, member: &str) -> Result<f64> {
        Ok(self.own(member)?.0)
    }

    /// A member's row with up to `n` rows above and `n` below. Raises `KeyError` for a member that is not there.
    pub fn around(&self, member: &str, #[default(2)] n: usize) -> Result<Vec<(usize, &str, f64)>> {
        let place = self.rank(member)? - 1;
        let first = place.saturating_sub(n);
        Ok(self.rows(first, (place - first).saturating_add(1).saturating_add(n)))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// How many members there are.
    pub fn __len__(&self) -> usize {
        self.len()
    }

    /// Whether a member is there.
    pub fn __contains__(&self, member: &str) -> bool {
        self.scores.contains_key(member)
    }

    fn own(&self, member: &str) -> Result<Score> {
        match self.scores.get(member) {
            Some(score) => Ok(*score),
            None => {
                let key = Item::new(member).expect("text can be encoded");
                Err(Fault::new("KeyError", member.to_owned()).with_data(&key).into())
            }
        }
    }

    fn set(&mut self, member: &str, score: Score) {
        if let Some(old) = self.scores.insert(member.to_owned(), score) {
            self.ranking.remove(&(Reverse(old), member.to_owned()));
        }
        self.ranking.insert((Reverse(score), member.to_owned()));
    }

    fn rows(&self, first: usize, n: usize) -> Vec<(usize, &str, f64)> {
        let rows = self.ranking.iter().enumerate().skip(first).take(n);
        rows.map(|(at, (Reverse(score), member))| (at + 1, member.as_str(), score.0)).collect()
    }
}

fn check(score: f64) -> Result<Score> {
    // Adding zero makes minus zero zero.
    if score.is_finite() { Ok(Score(score + 0.0)) } else { raise("ValueError", "a score is a finite number") }
}

impl From<Vec<(String, f64)>> for Leaderboard {
    fn from(rows: Vec<(String, f64)>) -> Self {
        let mut board = Self::default();
        rows.into_iter().for_each(|(member, score)| board.set(&member, Score(score)));
        board
    }
}

impl From<Leaderboard> for Vec<(String, f64)> {
    fn from(board: Leaderboard) -> Self {
        board.scores.into_iter().map(|(member, score)| (member, score.0)).collect()
    }
}

steward_guest::export!(Leaderboard);

#[cfg(test)]
mod tests;
