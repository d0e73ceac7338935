//! Typed proxies of a plugin. Written by `steward bindings rust`, which writes it anew: do not edit.

#![allow(dead_code, unreachable_pub, clippy::all, reason = "written by a program, for whatever may be called")]

use steward_client::{Args, Call, Error, Manager, Proxy, Typed};

/// Hands out `rate` tokens a second, `burst` at most at once.
///
/// It starts with `burst` tokens. Callers wait in turn: one that wants many tokens is not overtaken by others that want few.
///
/// Version 1.0.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimiter {
    proxy: Proxy,
}

impl Typed for RateLimiter {
    const TYPEID: &'static str = "RateLimiter";

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

impl RateLimiter {
    /// Creates an object, which lives for as long as somebody refers to it.
    pub async fn create(manager: &Manager, rate: f64, burst: Option<f64>) -> Result<Self, Error> {
        let args = Args::new().arg(&rate);
        let args = match burst {
            Some(burst) => args.keyword("burst", &burst),
            None => args,
        };
        Self::from_proxy(manager.create(Self::TYPEID, args).await?)
    }

    /// The object of this name, created if there is none.
    pub async fn create_named(manager: &Manager, name: &str, rate: f64, burst: Option<f64>) -> Result<Self, Error> {
        let args = Args::new().arg(&rate);
        let args = match burst {
            Some(burst) => args.keyword("burst", &burst),
            None => args,
        };
        Self::from_proxy(manager.create_named(name, Self::TYPEID, args).await?)
    }

    /// The object of this name, created with the type's defaults if there is none.
    pub async fn named(manager: &Manager, name: &str) -> Result<Self, Error> {
        manager.named(name).await
    }

    /// Takes `n` tokens, waiting in turn until they are there.
    pub fn acquire(&self, n: Option<f64>) -> Call<()> {
        let args = Args::new();
        let args = match n {
            Some(n) => args.keyword("n", &n),
            None => args,
        };
        self.proxy.call("acquire", args)
    }

    /// Tokens free at this moment.
    pub fn available(&self) -> Call<f64> {
        let args = Args::new();
        self.proxy.call("available", args)
    }
}
