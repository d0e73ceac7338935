//! Typed proxies of a plugin. Written by `steward bindings rust`, which writes it anew: do not edit.

#![allow(dead_code, unreachable_pub, clippy::all, reason = "written by a program, for whatever may be called")]

use serde::de::DeserializeOwned;
use steward_client::{Args, Call, Error, Manager, Proxy, Typed};

/// Members ranked by score, the highest first; members of equal score in the order of their names.
///
/// Ranks count from 1. Rows are `(rank, member, score)`.
///
/// Version 1.0.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaderboard {
    proxy: Proxy,
}

impl Typed for Leaderboard {
    const TYPEID: &'static str = "Leaderboard";

    fn from_proxy(proxy: Proxy) -> Result<Self, Error> {
        if proxy.typeid() != Self::TYPEID {
            let cause = format!("object {} is a `{}`", proxy.ident(), proxy.typeid());
            return Err(Error::Decode { wanted: Self::TYPEID, cause });
        }
        Ok(Self { proxy })
    }

    fn proxy(&self) -> &Proxy {
        &self.proxy
    }
}

impl Leaderboard {
    /// Creates an object, which lives for as long as somebody refers to it.
    pub async fn create(manager: &Manager) -> Result<Self, Error> {
        let args = Args::new();
        Self::from_proxy(manager.create(Self::TYPEID, args).await?)
    }

    /// The object of this name, created if there is none.
    pub async fn create_named(manager: &Manager, name: &str) -> Result<Self, Error> {
        let args = Args::new();
        Self::from_proxy(manager.create_named(name, Self::TYPEID, args).await?)
    }

    /// The object of this name, created with the type's defaults if there is none.
    pub async fn named(manager: &Manager, name: &str) -> Result<Self, Error> {
        manager.named(name).await
    }

    /// Sets a member's score and returns its rank. With `best`, a score below the member's own changes nothing.
    pub fn submit(&self, member: &str, score: f64, best: Option<bool>) -> Call<i64> {
        let args = Args::new().arg(member).arg(&score);
        let args = match best {
            Some(best) => args.keyword("best", &best),
            None => args,
        };
        self.proxy.call("submit", args)
    }

    /// Adds to a member's score, which starts at 0, and returns the sum.
    pub fn add(&self, member: &str, points: Option<f64>) -> Call<f64> {
        let args = Args::new().arg(member);
        let args = match points {
            Some(points) => args.keyword("points", &points),
            None => args,
        };
        self.proxy.call("add", args)
    }

    /// Takes a member off the board; says whether it was there.
    pub fn remove(&self, member: &str) -> Call<bool> {
        let args = Args::new().arg(member);
        self.proxy.call("remove", args)
    }

    /// The first `n` rows.
    pub fn top<T: DeserializeOwned>(&self, n: Option<i64>) -> Call<Vec<T>> {
        let args = Args::new();
        let args = match n {
            Some(n) => args.keyword("n", &n),
            None => args,
        };
        self.proxy.call("top", args)
    }

    /// A member's rank. Raises `KeyError` for one that is not there.
    pub fn rank(&self, member: &str) -> Call<i64> {
        let args = Args::new().arg(member);
        self.proxy.call("rank", args)
    }

    /// A member's score. Raises `KeyError` for one that is not there.
    pub fn score(&self, member: &str) -> Call<f64> {
        let args = Args::new().arg(member);
        self.proxy.call("score", args)
    }

    /// A member's row with up to `n` rows above and `n` below. Raises `KeyError` for a member that is not there.
    pub fn around<T: DeserializeOwned>(&self, member: &str, n: Option<i64>) -> Call<Vec<T>> {
        let args = Args::new().arg(member);
        let args = match n {
            Some(n) => args.keyword("n", &n),
            None => args,
        };
        self.proxy.call("around", args)
    }

    /// How many members there are.
    pub fn len(&self) -> Call<i64> {
        let args = Args::new();
        self.proxy.call("len", args)
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> Call<bool> {
        let args = Args::new();
        self.proxy.call("is_empty", args)
    }

    /// How many members there are.
    pub fn __len__(&self) -> Call<i64> {
        let args = Args::new();
        self.proxy.call("__len__", args)
    }

    /// Whether a member is there.
    pub fn __contains__(&self, member: &str) -> Call<bool> {
        let args = Args::new().arg(member);
        self.proxy.call("__contains__", args)
    }
}
