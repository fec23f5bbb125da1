// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! Properties that hold for any behaviour of machine, operator and other writers of `nr_hugepages`.

use policy::{
    Cause, Config, Decision, Node, Percent, Resize, Sample, Scope, State, MOVE_INTERVAL_MS, SAMPLE_PERIOD_MS,
    STEP_DIVISOR,
};
use proptest::prelude::*;

/// An event between two steps.
#[derive(Clone, Debug)]
enum Event {
    Target(u64),
    Floor(u64),
    Dynamic(bool),
    Outside { node: usize, pool: u64 },
    Use { node: usize, share: u64, reserved: u64 },
    Pass { pressure: u32, free_percent: u64, rate: Option<u32> },
    Fragmented(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let pass = (0_u32..6_000, 0_u64..100, proptest::option::of(7_000_u32..10_000))
        .prop_map(|(pressure, free_percent, rate)| Event::Pass { pressure, free_percent, rate });
    prop_oneof![
        1 => (0_u64..4_000).prop_map(Event::Target),
        1 => (0_u64..2_000).prop_map(Event::Floor),
        1 => any::<bool>().prop_map(Event::Dynamic),
        1 => (0_usize..3, 0_u64..800).prop_map(|(node, pool)| Event::Outside { node, pool }),
        2 => (0_usize..3, 0_u64..=100, 0_u64..300).prop_map(|(node, share, reserved)| Event::Use { node, share, reserved }),
        1 => any::<bool>().prop_map(Event::Fragmented),
        20 => pass,
    ]
}

/// A machine with three nodes that behaves like the kernel.
struct Host {
    nodes: [Node; 3],
    reserved: u64,
    now_ms: u64,
    pressure: u32,
    rate: Option<u32>,
    fragmented: bool,
    config: Config,
}

const MEMORY: u64 = 512 * 2_000;

impl Host {
    fn new() -> Self {
        let node = Node { total: 300, free: 300, memory: MEMORY, memory_free: MEMORY / 2, ..Node::default() };
        let config = Config::new();
        Self { nodes: [node; 3], reserved: 0, now_ms: 0, pressure: 0, rate: None, fragmented: false, config }
    }

    fn sample(&self) -> Sample<'_> {
        Sample {
            now_ms: self.now_ms,
            pressure: Some(Percent::from_hundredths(self.pressure)),
            cache_hit_rate: self.rate.map(Percent::from_hundredths),
            reserved: self.reserved,
            base_per_huge: 512,
            nodes: &self.nodes,
        }
    }

    /// Like the kernel: grows if it can, and shrinks only by free pages that are not reserved.
    fn set_pool(&mut self, node: usize, pool: u64) {
        let removable = self.sample().removable();
        let Node { total, free, .. } = self.nodes[node];
        let reached = match pool {
            _ if pool > total && self.fragmented => total + (pool - total) / 2,
            _ if pool > total => pool,
            _ => total - (total - pool).min(free).min(removable),
        };
        self.nodes[node].total = reached;
        self.nodes[node].free = reached + free - total;
    }

    fn apply(&mut self, resize: Resize) {
        match resize.scope {
            Scope::Node(node) => self.set_pool(node, resize.to),
            Scope::Pool => {
                // Each node in turn brings the pool as near to the wanted size as it can; growth is shared.
                let grow = resize.to.saturating_sub(resize.from);
                for node in 0..3 {
                    let excess = self.sample().pool().saturating_sub(resize.to);
                    let share = (grow + node as u64) / 3;
                    self.set_pool(node, (self.nodes[node].total + share).saturating_sub(excess));
                }
            }
        }
    }

    fn happen(&mut self, event: &Event, state: &mut State) {
        match *event {
            Event::Target(target) => assert_eq!(state.set_target(target, 3_000).is_ok(), target <= 3_000),
            Event::Floor(floor) => assert_eq!(state.set_floor(floor).is_ok(), floor <= state.target()),
            Event::Dynamic(dynamic) => self.config.dynamic = dynamic,
            Event::Outside { node, pool } => self.set_pool(node, pool),
            Event::Use { node, share, reserved } => {
                let used = self.nodes[node].total * share / 100;
                self.nodes[node].free = self.nodes[node].total - used;
                self.reserved = reserved.min(self.sample().free());
            }
            Event::Fragmented(fragmented) => self.fragmented = fragmented,
            Event::Pass { pressure, free_percent, rate } => {
                (self.pressure, self.rate) = (pressure, rate);
                for node in &mut self.nodes {
                    node.memory_free = MEMORY * free_percent / 100;
                }
            }
        }
        self.now_ms += SAMPLE_PERIOD_MS;
    }

    /// Runs one step and carries out its decision.
    fn run(&mut self, state: &mut State) {
        if let Decision::Resize(resize) = state.step(&self.sample(), &self.config) {
            self.apply(resize);
            state.settle(resize, &self.sample());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_controller_keeps_its_bounds(events in proptest::collection::vec(event(), 1..150)) {
        let mut host = Host::new();
        let mut state = State::new(&host.sample());
        let mut last_move: Option<u64> = None;
        for event in &events {
            host.happen(event, &mut state);
            let before = host.sample().pool();
            let needed = host.sample().needed();
            let decision = state.step(&host.sample(), &host.config);
            prop_assert!(state.floor() <= state.target());
            let Decision::Resize(resize) = decision else { continue };
            prop_assert_ne!(resize.from, resize.to);
            if !matches!(resize.cause, Cause::Order(_)) {
                prop_assert!(host.config.dynamic, "moved while off: {:?}", resize);
                prop_assert!(resize.from.abs_diff(resize.to) <= (state.target() / STEP_DIVISOR).max(1));
                prop_assert!(last_move.is_none_or(|then| host.now_ms - then >= MOVE_INTERVAL_MS), "too fast");
                last_move = Some(host.now_ms);
            }
            host.apply(resize);
            let after = host.sample().pool();
            prop_assert!(after >= before || after >= needed, "{after} of {needed} needed pages left");
            match resize.cause {
                Cause::Pressure => {
                    prop_assert!(host.pressure >= 1_500);
                    prop_assert!(after >= state.floor(), "{after} is below the floor {}", state.floor());
                }
                Cause::Calm => {
                    prop_assert!(host.pressure <= 1_000);
                    prop_assert!(after <= state.target());
                }
                Cause::Order(_) => prop_assert!(after.abs_diff(state.target()) <= before.abs_diff(state.target())),
                Cause::Unload => prop_assert!(false, "a step does not unload"),
            }
            state.settle(resize, &host.sample());
        }
    }

    #[test]
    fn within_the_band_nothing_moves(
        pressures in proptest::collection::vec(1_001_u32..1_500, 1..400),
        free_percent in 0_u64..100,
    ) {
        let mut host = Host::new();
        host.config.dynamic = true;
        let mut state = State::new(&host.sample());
        state.set_floor(0).unwrap();
        for pressure in pressures {
            host.happen(&Event::Pass { pressure, free_percent, rate: None }, &mut state);
            prop_assert!(matches!(state.step(&host.sample(), &host.config), Decision::Hold(_)));
        }
    }

    #[test]
    fn a_raise_from_outside_is_never_undone(
        raise in 1_u64..500, node in 0_usize..3, floor in 0_u64..900,
        pressures in proptest::collection::vec(0_u32..6_000, 1..200),
    ) {
        let mut host = Host::new();
        host.config.dynamic = true;
        let mut state = State::new(&host.sample());
        state.set_floor(floor).unwrap();
        host.set_pool(node, 300 + raise);
        let raised = host.sample().pool();
        for pressure in pressures {
            host.happen(&Event::Pass { pressure, free_percent: 2, rate: None }, &mut state);
            host.run(&mut state);
            prop_assert!(host.sample().pool() >= raised);
            prop_assert_eq!(state.floor(), raised);
        }
    }

    #[test]
    fn the_pool_is_complete_again_after_calm(
        events in proptest::collection::vec(event(), 1..150),
    ) {
        let mut host = Host::new();
        let mut state = State::new(&host.sample());
        for event in &events {
            host.happen(event, &mut state);
            host.run(&mut state);
        }
        (host.fragmented, host.config.dynamic) = (false, true);
        for _ in 0..1_000 {
            host.happen(&Event::Pass { pressure: 0, free_percent: 100, rate: None }, &mut state);
            host.run(&mut state);
        }
        prop_assert!(host.sample().pool() >= state.target(), "{} of {}", host.sample().pool(), state.target());
    }
}
