//! What changes nothing: shadow rules and the candidate policy, judged after the verdict and noted in the record.
//!
//! Nothing is verified for their sake. Where one of them would need to know who asks and the live policy did not look, its
//! answer is `challenge`: somebody would have to sign in. The candidate sees the caller as the live policy's sources verified
//! it, with roles as the candidate's own hierarchy widens them.

use std::net::IpAddr;
use std::sync::Arc;

use super::enforce::{Caller, Case, Judged, Told};
use crate::observe::record::{Decided, Record, Rule, Second};
use crate::policy::decision::Credential;
use crate::policy::explain::Stage;
use crate::policy::{Decision, First, Identity, Person, Policy};
use crate::snapshot::Candidate;
use crate::value::reason::Reason;

impl Case<'_> {
    /// Whether anything watches.
    #[must_use]
    pub const fn watched(&self) -> bool {
        self.snapshot.policy.has_shadows() || self.snapshot.candidate.is_some()
    }

    /// Asks whatever watches, and notes what it says.
    pub fn watch(&self, judged: &Judged, record: &mut Record) {
        let known = record.region;
        let lookup =
            |address: IpAddr| known.unwrap_or_else(|| self.snapshot.geo.region(address, self.now));
        let identity = identity(judged.caller, judged.person.as_ref());
        let device = judged.device.clone().or_else(|| self.device_of(identity));
        let facts = self.facts(self.method, identity, device.as_ref(), &lookup);
        let policy = &self.snapshot.policy;
        for shadowed in policy.shadowed(&facts, self.place, stage(judged.caller), judged.decision) {
            let rule = Arc::clone(&policy.rule(shadowed.rule).name);
            record.shadow.push((rule, shadowed.would.into()));
        }
        self.note_region(&facts, record);
        if let Some(candidate) = &self.snapshot.candidate {
            record.candidate = Some(Box::new(self.second_opinion(candidate, judged, record)));
        }
    }

    fn second_opinion(&self, candidate: &Candidate, judged: &Judged, record: &Record) -> Second {
        let policy = &candidate.policy;
        let same = Arc::ptr_eq(&candidate.geo, &self.snapshot.geo);
        let known = record.region.filter(|_| same);
        let lookup =
            |address: IpAddr| known.unwrap_or_else(|| candidate.geo.region(address, self.now));
        let Ok(place) = policy.locate(self.host, self.target) else {
            return Second {
                decided: Decided::Error,
                status: Some(400),
                reason: Some(Reason::fixed("ambiguous_path")),
                rule: None,
                differs: true,
            };
        };
        let open = self.device_of(Identity::Open);
        let mut facts = self.facts(self.method, Identity::Open, open.as_ref(), &lookup);
        let decision = match (policy.first(&facts, place), judged.caller) {
            (First::Decided(decision), _) => decision,
            (First::SignIn, Caller::Unseen) => {
                return Second {
                    decided: Decided::Challenge,
                    status: None,
                    reason: None,
                    rule: None,
                    differs: true,
                };
            }
            (First::SignIn, caller) => {
                let person = judged.person.as_ref();
                let person = person.map(|person| policy.person(Arc::clone(&person.principal)));
                let region = std::mem::take(&mut facts.region);
                let identity = identity(caller, person.as_ref());
                let device = self.device_of(identity);
                let mut facts = self.facts(self.method, identity, device.as_ref(), &lookup);
                facts.region = region;
                policy.second(&facts, place, credential(caller))
            }
        };
        let differs = !same_answer(judged.decision, &self.snapshot.policy, decision, policy);
        let told = Told::of(decision.verdict, Vec::new(), policy);
        Second {
            decided: decision.verdict.into(),
            status: told.as_ref().map(|told| told.status),
            reason: told.map(|told| told.reason),
            rule: decision.rule.map(|id| Rule::from(policy.rule(id))),
            differs,
        }
    }
}

/// Whether a client would see the same.
fn same_answer(live: Decision, of: &Policy, other: Decision, of_other: &Policy) -> bool {
    let live = Told::of(live.verdict, Vec::new(), of);
    let other = Told::of(other.verdict, Vec::new(), of_other);
    match (live, other) {
        (None, None) => true,
        (Some(live), Some(other)) => live.status == other.status && live.reason == other.reason,
        (None, Some(_)) | (Some(_), None) => false,
    }
}

const fn identity<'p>(caller: Caller, person: Option<&'p Person>) -> Identity<'p> {
    match (caller, person) {
        (Caller::Unseen, _) => Identity::Open,
        (Caller::Failed, _) => Identity::Failed,
        (Caller::Known, Some(person)) => Identity::Known(person),
        (Caller::Known, None) | (Caller::Anonymous(_), _) => Identity::Anonymous,
    }
}

const fn credential(caller: Caller) -> Credential {
    match caller {
        Caller::Anonymous(credential) => credential,
        Caller::Unseen | Caller::Failed | Caller::Known => Credential::Absent,
    }
}

const fn stage(caller: Caller) -> Stage {
    match caller {
        Caller::Unseen => Stage::Unseen,
        Caller::Anonymous(_) | Caller::Failed | Caller::Known => Stage::Seen(credential(caller)),
    }
}
