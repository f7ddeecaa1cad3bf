//! What a client sees when we answer ourselves, as data: denial shape and pages, interception, CORS.

/// `[denial]`.
#[derive(Debug, Clone, Default)]
pub struct Denial;

/// `[site.intercept]`.
#[derive(Debug, Clone)]
pub struct Intercept;

/// `[site.cors]`.
#[derive(Debug, Clone)]
pub struct Cors;

/// Every page of ours that the configuration names, by the name that refusals carry.
#[derive(Debug, Clone, Default)]
pub struct Pages;
