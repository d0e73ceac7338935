use proptest::prelude::*;
use steward_guest::testing::Harness;

use super::*;

type Row = (usize, String, f64);

fn board(members: &[(&str, f64)]) -> Harness<Leaderboard> {
    let mut board = Harness::new(args![]).unwrap();
    for (member, score) in members {
        board.call("submit", args![member, score]).value::<usize>();
    }
    board
}

fn row(rank: usize, member: &str, score: f64) -> Row {
    (rank, member.to_owned(), score)
}

#[test]
fn highest_score_leads_and_equals_stand_by_name() {
    let mut board = board(&[("bo", 5.0), ("al", 5.0), ("cy", 9.0)]);
    let rows = board.call("top", args![]).value::<Vec<Row>>();
    assert_eq!(rows, [row(1, "cy", 9.0), row(2, "al", 5.0), row(3, "bo", 5.0)]);
    assert_eq!(board.call("top", args![n = 1]).value::<Vec<Row>>(), [row(1, "cy", 9.0)]);
    assert_eq!(board.call("rank", args!["bo"]).value::<usize>(), 3);
}

#[test]
fn best_keeps_the_higher_score() {
    let mut board = board(&[("al", 5.0)]);
    board.call("submit", args!["al", 3.0, best = true]).value::<usize>();
    assert_eq!(board.call("score", args!["al"]).value::<f64>(), 5.0);
    board.call("submit", args!["al", 3.0]).value::<usize>();
    assert_eq!(board.call("score", args!["al"]).value::<f64>(), 3.0);
}

#[test]
fn around_shows_neighbours_and_stops_at_both_ends() {
    let mut board = board(&[("a", 4.0), ("b", 3.0), ("c", 2.0), ("d", 1.0)]);
    let ranks = |rows: Vec<Row>| rows.into_iter().map(|(rank, ..)| rank).collect::<Vec<_>>();
    assert_eq!(ranks(board.call("around", args!["c", 1]).value()), [2, 3, 4]);
    assert_eq!(ranks(board.call("around", args!["a", 1]).value()), [1, 2]);
    assert_eq!(ranks(board.call("around", args!["d", 0]).value()), [4]);
    assert_eq!(ranks(board.call("around", args!["b", u64::from(u32::MAX)]).value()), [1, 2, 3, 4]);
}

#[test]
fn members_that_are_not_there_are_key_errors() {
    let mut board = board(&[]);
    for method in ["rank", "score", "around"] {
        assert_eq!(board.call(method, args!["al"]).raised(), ("KeyError".to_owned(), "al".to_owned()));
    }
    assert!(!board.call("remove", args!["al"]).value::<bool>());
}

#[test]
fn scores_are_finite_numbers() {
    let mut board = board(&[("al", 1.0)]);
    assert_eq!(board.call("submit", args!["al", f64::NAN]).raised().0, "ValueError");
    assert_eq!(board.call("add", args!["al", f64::MAX]).value::<f64>(), f64::MAX);
    assert_eq!(board.call("add", args!["al", f64::MAX]).raised().0, "ValueError");
    assert_eq!(
        board.call("submit", args!["al", "many"]).raised().1,
        "Leaderboard.submit() argument 'score' must be float, not str"
    );
}

#[test]
fn reading_changes_nothing() {
    let mut board = board(&[("al", 1.0)]);
    let version = board.version();
    board.call("top", args![]).value::<Vec<Row>>();
    board.call("around", args!["al"]).value::<Vec<Row>>();
    assert!(board.call("__contains__", args!["al"]).value::<bool>());
    assert_eq!(board.version(), version);
}

proptest! {
    /// Against a plain list that is sorted whenever it is read.
    #[test]
    fn board_agrees_with_a_sorted_list(turns in prop::collection::vec((0..4u8, "[a-e]", -3..3i8), 1..80)) {
        let mut board = board(&[]);
        let mut list: Vec<(String, f64)> = Vec::new();
        for (what, member, score) in turns {
            let score = f64::from(score);
            let at = list.iter().position(|(name, _)| *name == member);
            match (what, at) {
                (0, _) => {
                    board.call("submit", args![member, score]).value::<usize>();
                    at.map(|at| list.remove(at));
                    list.push((member, score));
                }
                (1, _) => {
                    let sum = at.map_or(0.0, |at| list.remove(at).1) + score;
                    prop_assert_eq!(board.call("add", args![member, score]).value::<f64>(), sum);
                    list.push((member, sum));
                }
                (2, _) => {
                    prop_assert_eq!(board.call("remove", args![member]).value::<bool>(), at.is_some());
                    at.map(|at| list.remove(at));
                }
                _ => board.reload(),
            }
            list.sort_by(|(a, x), (b, y)| y.total_cmp(x).then(a.cmp(b)));
            let rows: Vec<Row> = list.iter().enumerate().map(|(at, (member, score))| row(at + 1, member, *score)).collect();
            prop_assert_eq!(board.call("top", args![]).value::<Vec<Row>>(), rows);
            prop_assert_eq!(board.call("len", args![]).value::<usize>(), list.len());
        }
    }
}
