// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 OR MIT

//! Each rule of the policy, with a case in which it must act and one in which it must not.

use policy::{
    Cause, Config, Decision, Hold, Invalid, Node, Percent, Resize, Sample, Scope, State, CALM_MS, FORGIVE_MS,
    MOVE_INTERVAL_MS, ORDER_SLICE,
};

/// A machine with two nodes whose values a test sets.
struct Machine {
    nodes: [Node; 2],
    now_ms: u64,
    pressure: Option<Percent>,
    rate: Option<Percent>,
    reserved: u64,
}

const MEMORY: u64 = 512 * 2_000;

impl Machine {
    /// 512 free pages a node, and plenty of free memory.
    fn calm() -> Self {
        let node = Node { total: 512, free: 512, memory: MEMORY, memory_free: 512 * 1_000, ..Node::default() };
        Self { nodes: [node; 2], now_ms: 1_000_000, pressure: Some(Percent::whole(0)), rate: None, reserved: 0 }
    }

    /// The same under pressure, node 1 nearly out of memory.
    fn pressed() -> Self {
        let mut machine = Self::calm();
        machine.pressure = Some(Percent::whole(30));
        machine.nodes[1].memory_free = 512 * 100;
        machine
    }

    fn sample(&self) -> Sample<'_> {
        Sample {
            now_ms: self.now_ms,
            pressure: self.pressure,
            cache_hit_rate: self.rate,
            reserved: self.reserved,
            base_per_huge: 512,
            nodes: &self.nodes,
        }
    }

    /// Carries out a resize like a kernel with enough memory.
    fn apply(&mut self, resize: Resize) {
        match resize.scope {
            Scope::Node(node) => self.set_pool(node, resize.to),
            Scope::Pool => (0..2).for_each(|node| self.set_pool(node, (resize.to + node as u64) / 2)),
        }
    }

    fn set_pool(&mut self, node: usize, pool: u64) {
        let node = &mut self.nodes[node];
        let used = node.total - node.free;
        *node = Node { total: pool, free: pool - used, ..*node };
    }

    /// Runs one step and carries out its decision.
    fn run(&mut self, state: &mut State, config: &Config) -> Decision {
        let decision = state.step(&self.sample(), config);
        if let Decision::Resize(resize) = decision {
            self.apply(resize);
            state.settle(resize, &self.sample());
        }
        decision
    }
}

fn on() -> Config {
    let mut config = Config::new();
    config.dynamic = true;
    config
}

/// A controller on `machine` that may shrink the pool to 0 pages.
fn unbound(machine: &Machine) -> State {
    let mut state = State::new(&machine.sample());
    state.set_floor(0).expect("no floor is too low");
    state
}

fn to_node(node: usize, from: u64, to: u64, cause: Cause) -> Decision {
    Decision::Resize(Resize { scope: Scope::Node(node), from, to, cause })
}

#[test]
fn the_short_node_loses_a_sixteenth_of_the_target() {
    let mut machine = Machine::pressed();
    let mut state = unbound(&machine);
    assert_eq!(machine.run(&mut state, &on()), to_node(1, 512, 448, Cause::Pressure));
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::Cooldown));
    machine.now_ms += MOVE_INTERVAL_MS;
    assert_eq!(machine.run(&mut state, &on()), to_node(1, 448, 384, Cause::Pressure));
    assert_eq!((state.counters().shrinks, state.counters().pages_freed), (2, 128));
}

#[test]
fn nothing_moves_while_dynamic_is_off() {
    let mut machine = Machine::pressed();
    let mut state = unbound(&machine);
    assert_eq!(machine.run(&mut state, &Config::new()), Decision::Hold(Hold::Off));
}

#[test]
fn nothing_moves_without_pressure_information() {
    let mut machine = Machine::pressed();
    machine.pressure = None;
    let mut state = unbound(&machine);
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::NoPressure));
}

#[test]
fn pressure_must_reach_the_upper_threshold() {
    let mut machine = Machine::pressed();
    let mut state = unbound(&machine);
    machine.pressure = Some(Percent::from_hundredths(1_499));
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::Band));
    machine.pressure = Some(Percent::from_hundredths(1_500));
    assert!(matches!(machine.run(&mut state, &on()), Decision::Resize(_)));
}

#[test]
fn the_pool_stays_until_the_floor_is_lowered() {
    let mut machine = Machine::pressed();
    let mut state = State::new(&machine.sample());
    assert_eq!((state.target(), state.floor()), (1_024, 1_024));
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::AtFloor));
    assert_eq!(state.set_floor(1_025), Err(Invalid));
    assert_eq!(state.set_floor(1_000), Ok(()));
    assert_eq!(machine.run(&mut state, &on()), to_node(1, 512, 488, Cause::Pressure), "only down to the floor");
}

#[test]
fn pressure_alone_is_not_enough() {
    let mut machine = Machine::pressed();
    machine.nodes[1].memory_free = 512 * 1_000;
    let mut state = unbound(&machine);
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::MemoryNotShort));
}

#[test]
fn pages_on_another_node_do_not_help_the_short_one() {
    let mut machine = Machine::pressed();
    machine.nodes[1] = Node { total: 0, free: 0, memory_free: 512, ..machine.nodes[1] };
    let mut state = unbound(&machine);
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::NothingOnShortNode));
}

#[test]
fn a_good_cache_hit_rate_holds_until_memory_is_critical() {
    let mut machine = Machine::pressed();
    let mut state = unbound(&machine);
    machine.rate = Some(Percent::whole(95));
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::CacheDoesWell));
    machine.rate = Some(Percent::whole(85));
    assert!(matches!(state.step(&machine.sample(), &on()), Decision::Resize(_)));
    machine.rate = Some(Percent::whole(95));
    machine.nodes[1].memory_free = 512 * 20;
    assert!(matches!(state.step(&machine.sample(), &on()), Decision::Resize(_)));
}

#[test]
fn page_cache_does_not_count_as_available_with_a_low_hit_rate() {
    let mut machine = Machine::pressed();
    machine.nodes[1].file_cache = 512 * 1_000;
    let mut state = unbound(&machine);
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::MemoryNotShort));
    machine.rate = Some(Percent::whole(80));
    assert!(matches!(machine.run(&mut state, &on()), Decision::Resize(_)));
}

#[test]
fn mapped_and_reserved_pages_are_never_taken() {
    let mut machine = Machine::pressed();
    for node in &mut machine.nodes {
        node.free = 40;
    }
    machine.reserved = 70;
    let mut state = unbound(&machine);
    assert_eq!(machine.run(&mut state, &on()), to_node(1, 512, 502, Cause::Pressure));
    machine.now_ms += MOVE_INTERVAL_MS;
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::AtFloor));
}

#[test]
fn pages_are_restored_after_a_calm_where_they_were_taken() {
    let mut machine = Machine::pressed();
    let mut state = unbound(&machine);
    machine.run(&mut state, &on());
    machine.nodes[1].memory_free = 512 * 1_000;
    machine.pressure = Some(Percent::whole(10));
    machine.now_ms += MOVE_INTERVAL_MS;
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::Calming));
    machine.now_ms += CALM_MS - 1;
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::Calming));
    machine.now_ms += 1;
    assert_eq!(machine.run(&mut state, &on()), to_node(1, 448, 512, Cause::Calm));
    machine.now_ms += MOVE_INTERVAL_MS;
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::Steady));
}

#[test]
fn pages_are_not_restored_where_memory_is_short() {
    let mut machine = Machine::pressed();
    let mut state = unbound(&machine);
    machine.run(&mut state, &on());
    machine.pressure = Some(Percent::whole(0));
    machine.run(&mut state, &on());
    machine.now_ms += CALM_MS;
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::NoRoom));
}

#[test]
fn a_relapse_doubles_the_calm_until_it_is_long_ago() {
    let mut machine = Machine::pressed();
    let mut state = unbound(&machine);
    let wait_for_restore = |machine: &mut Machine, state: &mut State| {
        machine.pressure = Some(Percent::whole(0));
        machine.nodes[1].memory_free = 512 * 1_000;
        let start = machine.now_ms;
        while !matches!(machine.run(state, &on()), Decision::Resize(_)) {
            machine.now_ms += 1_000;
        }
        machine.now_ms - start
    };
    let press = |machine: &mut Machine, state: &mut State| {
        machine.pressure = Some(Percent::whole(30));
        machine.nodes[1].memory_free = 512 * 100;
        machine.now_ms += MOVE_INTERVAL_MS;
        assert!(matches!(machine.run(state, &on()), Decision::Resize(_)));
    };
    press(&mut machine, &mut state);
    assert_eq!(wait_for_restore(&mut machine, &mut state), CALM_MS);
    press(&mut machine, &mut state);
    assert_eq!(wait_for_restore(&mut machine, &mut state), 2 * CALM_MS);
    machine.now_ms += FORGIVE_MS;
    machine.run(&mut state, &on());
    press(&mut machine, &mut state);
    assert_eq!(wait_for_restore(&mut machine, &mut state), CALM_MS);
}

#[test]
fn a_raise_from_outside_is_the_new_floor_and_target() {
    let mut machine = Machine::pressed();
    let mut state = unbound(&machine);
    machine.run(&mut state, &on());
    machine.set_pool(0, 552);
    machine.now_ms += MOVE_INTERVAL_MS;
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::AtFloor));
    assert_eq!((state.target(), state.floor()), (1_024, 1_000), "448 and 552 were the pool");
    machine.set_pool(0, 712);
    machine.run(&mut state, &on());
    assert_eq!((state.target(), state.floor()), (1_160, 1_160));
    assert_eq!(state.counters().outside_changes, 2);
}

#[test]
fn a_cut_from_outside_is_the_new_target() {
    let mut machine = Machine::calm();
    let mut state = State::new(&machine.sample());
    machine.set_pool(0, 100);
    assert_eq!(machine.run(&mut state, &Config::new()), Decision::Hold(Hold::Off));
    assert_eq!((state.target(), state.floor()), (612, 612), "noticed even while off");
    machine.now_ms += CALM_MS * 10;
    machine.run(&mut state, &on());
    machine.now_ms += CALM_MS * 10;
    assert_eq!(machine.run(&mut state, &on()), Decision::Hold(Hold::Steady), "and not undone");
}

#[test]
fn a_written_target_is_followed_in_slices_even_while_off() {
    let mut machine = Machine::calm();
    let mut state = State::new(&machine.sample());
    assert_eq!(state.set_target(5_001, 5_000), Err(Invalid));
    assert_eq!(state.set_target(5_000, 5_000), Ok(()));
    let Decision::Resize(resize) = state.step(&machine.sample(), &Config::new()) else { panic!("no resize") };
    assert_eq!((resize.scope, resize.from, resize.to), (Scope::Pool, 1_024, 1_024 + ORDER_SLICE));
    machine.apply(resize);
    assert!(!state.settle(resize, &machine.sample()).complete, "more slices follow");
    machine.run(&mut state, &Config::new());
    assert_eq!(machine.sample().pool(), 5_000);
    assert_eq!(machine.run(&mut state, &Config::new()), Decision::Hold(Hold::Off));
}

#[test]
fn a_target_below_the_used_pages_is_reached_as_they_are_released() {
    let mut machine = Machine::calm();
    machine.nodes[0].free = 0;
    let mut state = State::new(&machine.sample());
    state.set_target(100, 5_000).unwrap();
    let config = Config::new();
    let Decision::Resize(resize) = state.step(&machine.sample(), &config) else { panic!("no resize") };
    assert_eq!(resize.to, 512, "in use");
    machine.set_pool(1, 0);
    assert!(state.settle(resize, &machine.sample()).complete);
    assert_eq!(machine.run(&mut state, &config), Decision::Hold(Hold::Off));
    machine.nodes[0].free = 500;
    let Decision::Resize(resize) = state.step(&machine.sample(), &config) else { panic!("no resize") };
    assert_eq!((resize.from, resize.to), (512, 100));
}

#[test]
fn a_target_without_enough_memory_is_tried_once() {
    let mut machine = Machine::calm();
    let mut state = State::new(&machine.sample());
    state.set_target(1_200, 5_000).unwrap();
    let Decision::Resize(resize) = state.step(&machine.sample(), &Config::new()) else { panic!("no resize") };
    machine.set_pool(0, 600);
    let outcome = state.settle(resize, &machine.sample());
    assert_eq!((outcome.complete, outcome.shortfall()), (true, 88));
    assert_eq!(machine.run(&mut state, &Config::new()), Decision::Hold(Hold::Off));
    assert_eq!((state.target(), state.counters().shortfalls), (1_200, 1));
}

#[test]
fn an_order_during_a_resize_is_not_lost() {
    let mut machine = Machine::calm();
    let mut state = State::new(&machine.sample());
    state.set_target(1_100, 5_000).unwrap();
    let Decision::Resize(resize) = state.step(&machine.sample(), &Config::new()) else { panic!("no resize") };
    state.set_target(1_050, 5_000).unwrap();
    machine.apply(resize);
    state.settle(resize, &machine.sample());
    machine.run(&mut state, &Config::new());
    assert_eq!(machine.sample().pool(), 1_050);
}

#[test]
fn unload_restores_what_was_taken_and_no_more() {
    let mut machine = Machine::pressed();
    let mut state = unbound(&machine);
    assert_eq!(state.unwind(&machine.sample(), 1), None, "nothing was taken");
    machine.run(&mut state, &on());
    assert_eq!(state.unwind(&machine.sample(), 0), None);
    let resize = state.unwind(&machine.sample(), 1).unwrap();
    assert_eq!((resize.from, resize.to, resize.cause), (448, 512, Cause::Unload));
    machine.apply(resize);
    state.settle(resize, &machine.sample());
    assert_eq!(state.unwind(&machine.sample(), 1), None);
    assert_eq!(state.unwind(&machine.sample(), 99), None, "no such node");
}
