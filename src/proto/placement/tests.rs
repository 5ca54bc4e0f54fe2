//! Plans for small worlds: what DragonHPC's evaluator gives, what differs, and what holds for every plan.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn gpu(vendor: Vendor, name: &str, uuid: &str) -> Gpu {
    Gpu { vendor, name: name.into(), uuid: uuid.into(), model: String::new(), memory: 0 }
}

/// Nodes of so many cpus and NVIDIA GPUs each.
fn nodes(sizes: &[(usize, usize)]) -> Vec<Node> {
    let node = |(at, &(cpus, gpus)): (usize, &(usize, usize))| Node {
        id: NodeId(at as u32),
        name: format!("host{at}.domain"),
        cpus: (0..cpus).collect(),
        parallelism: cpus,
        numa: Vec::new(),
        memory: 1 << 30,
        gpus: (0..gpus).map(|g| gpu(Vendor::Nvidia, &g.to_string(), &format!("GPU-{at}-{g}"))).collect(),
    };
    sizes.iter().enumerate().map(node).collect()
}

fn placed(wanted: &[(Policy, usize)], nodes: &[Node]) -> Vec<u32> {
    plan(wanted, nodes, NodeId(0)).unwrap().iter().map(|seat| seat.node.number()).collect()
}

/// How many each node gets.
fn counts(wanted: &[(Policy, usize)], nodes: &[Node]) -> Vec<usize> {
    let placed = placed(wanted, nodes);
    nodes.iter().map(|node| placed.iter().filter(|at| **at == node.id.number()).count()).collect()
}

#[test]
fn round_robin_and_block_are_those_of_dragon() {
    let (four, two) = (nodes(&[(4, 0); 4]), nodes(&[(4, 0); 2]));
    let (rr, block) = (Policy::new().round_robin(), Policy::new().block());
    assert_eq!(counts(&[(rr.clone(), 8)], &four), [2, 2, 2, 2]);
    assert_eq!(counts(&[(block.clone(), 8)], &four), [4, 4, 0, 0]);
    let mixed = [&rr, &block, &block, &block, &rr, &block, &rr, &block].map(|policy| (policy.clone(), 1));
    assert_eq!(counts(&mixed, &four), [1, 4, 2, 1]);
    assert_eq!(counts(&[(block.clone(), 16)], &two), [8, 8]);
    assert_eq!(placed(&[(Policy::new(), 5)], &four), [0, 1, 2, 3, 0], "round robin is the default");
    assert_eq!(placed(&[(block, 6)], &nodes(&[(1, 0), (2, 0), (3, 0)])), [0, 1, 1, 2, 2, 2]);
}

#[test]
fn the_callers_node_comes_first_and_local_is_local() {
    let four = nodes(&[(4, 0); 4]);
    let at = |policy: Policy| {
        let seats = plan(&[(policy, 5)], &four, NodeId(2)).unwrap();
        seats.iter().map(|seat| seat.node.number()).collect::<Vec<_>>()
    };
    assert_eq!(at(Policy::new().anywhere()), [2, 3, 0, 1, 2]);
    assert_eq!(at(Policy::new().local()), [2; 5]);
    assert_eq!(at(Policy::new().node(NodeId(1)).block()), [1; 5]);
}

#[test]
fn hosts_are_found_with_and_without_their_domain() {
    let mut world = nodes(&[(2, 0); 3]);
    world[2].name = "host1".into();
    assert_eq!(placed(&[(Policy::new().host("HOST0"), 2)], &world), [0, 0]);
    assert_eq!(placed(&[(Policy::new().host("host1.domain"), 4)], &world), [1, 2, 1, 2], "two nodes on one host");
    assert_eq!(placed(&[(Policy::new().host("host0.domain"), 1), (Policy::new(), 2)], &world), [0, 0, 1]);
    let error = plan(&[(Policy::new().host("host0.elsewhere"), 1)], &world, NodeId(0)).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("`host0.elsewhere`") && told.contains("host0.domain, host1.domain, host1"), "{told}");
}

#[test]
fn what_is_not_there_is_named() {
    let world = nodes(&[(4, 2), (8, 0)]);
    let told = |policy: Policy| plan(&[(policy, 1)], &world, NodeId(0)).unwrap_err().to_string();
    let text = told(Policy::new().node(NodeId(7)));
    assert!(text.contains("node 7") && text.contains("node 0, node 1"), "{text}");
    let text = told(Policy::new().local().cpus([1, 6]));
    assert!(text.contains("cpu 6 ") && text.contains("node 0 (host0.domain)") && text.contains("0-3"), "{text}");
    let text = told(Policy::new().gpus([2]));
    assert!(text.contains("GPU `2`") && text.contains("0, 1") && text.contains("1 other"), "{text}");
    let text = told(Policy::new().host("host1").gpus(["GPU-0-0"]));
    assert!(text.contains("GPU `GPU-0-0`") && text.contains("none"), "{text}");
    assert!(told(Policy::new().cpus([])).contains("no cpu at all"));
}

#[test]
fn anywhere_means_where_the_cpus_and_gpus_are() {
    let world = nodes(&[(4, 0), (8, 2), (8, 1)]);
    assert_eq!(placed(&[(Policy::new().cpus([7]), 4)], &world), [1, 2, 1, 2]);
    assert_eq!(placed(&[(Policy::new().gpus([1]), 2)], &world), [1, 1]);
    assert_eq!(placed(&[(Policy::new().gpus(["gpu-2-0"]), 1)], &world), [2], "a uuid says where it is");
}

#[test]
fn a_seat_shows_its_gpus_and_no_others() {
    let mut world = nodes(&[(4, 4)]);
    world[0].gpus.extend([
        gpu(Vendor::Amd, "0", "GPU-a"),
        gpu(Vendor::Amd, "3", "GPU-b"),
        gpu(Vendor::Intel, "0", "PCI-c"),
    ]);
    let env = |gpus: &[&str]| plan(&[(Policy::new().gpus(gpus), 1)], &world, NodeId(0)).unwrap()[0].env.clone();
    let is = |env: Vec<(String, String)>, wanted: &[(&str, &str)]| {
        let wanted: Vec<_> = wanted.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(env, wanted);
    };
    is(env(&["3", "1", "3"]), &[("CUDA_VISIBLE_DEVICES", "3,1")]);
    is(env(&["GPU-b", "GPU-a"]), &[("ROCR_VISIBLE_DEVICES", "3,0"), ("HIP_VISIBLE_DEVICES", "0,1")]);
    is(env(&["GPU-0-2", "PCI-c"]), &[("CUDA_VISIBLE_DEVICES", "2"), ("ZE_AFFINITY_MASK", "0")]);
    is(
        env(&[]),
        &[
            ("CUDA_VISIBLE_DEVICES", ""),
            ("ROCR_VISIBLE_DEVICES", ""),
            ("HIP_VISIBLE_DEVICES", ""),
            ("ZE_AFFINITY_MASK", ""),
        ],
    );
    let unsaid = &plan(&[(Policy::new(), 1)], &world, NodeId(0)).unwrap()[0];
    assert_eq!((unsaid.env.len(), &unsaid.gpus, &unsaid.cpus), (0, &None, &None));
}

#[test]
fn where_names_are_no_numbers_a_number_is_a_place() {
    let mut world = nodes(&[(4, 0)]);
    world[0].gpus = ["MIG-x", "MIG-y"].map(|name| gpu(Vendor::Nvidia, name, name)).into();
    let seat = |name: &str| plan(&[(Policy::new().gpus([name]), 1)], &world, NodeId(0));
    assert_eq!(seat("1").unwrap()[0].env, [("CUDA_VISIBLE_DEVICES".into(), "MIG-y".into())]);
    assert!(seat("2").is_err());
    assert!(plan(&[(Policy::new().gpus([7]), 1)], &nodes(&[(4, 2)]), NodeId(0)).is_err());
}

#[test]
fn room_is_what_a_policy_may_use() {
    let mut world = nodes(&[(4, 0), (8, 1)]);
    world[1].parallelism = 3;
    let rooms = |policy: Policy| room(&policy, &world, NodeId(0)).unwrap();
    assert_eq!(rooms(Policy::new()), [(NodeId(0), 4), (NodeId(1), 3)]);
    assert_eq!(rooms(Policy::new().cpus([0, 3])), [(NodeId(0), 2), (NodeId(1), 2)]);
    assert_eq!(rooms(Policy::new().gpus([0])), [(NodeId(1), 3)]);
}

fn sizes() -> impl Strategy<Value = Vec<(usize, usize)>> {
    proptest::collection::vec((1..9_usize, 0..3_usize), 1..6)
}

fn policies() -> impl Strategy<Value = Policy> {
    let place = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Placement::Local)),
        1 => (0..6_u32).prop_map(|node| Some(Placement::Node(NodeId(node)))),
        1 => (0..6_u32).prop_map(|node| Some(Placement::Host(format!("host{node}")))),
    ];
    let order = prop_oneof![Just(None), Just(Some(Distribution::Block))];
    let cpus = proptest::option::weighted(0.3, proptest::collection::vec(0..8_usize, 1..3));
    let gpus = proptest::option::weighted(0.3, proptest::collection::vec("[0-2]", 0..3));
    (place, order, cpus, gpus).prop_map(|(placement, distribution, cpus, gpus)| Policy {
        placement,
        distribution,
        cpus,
        gpus,
    })
}

/// Whether a process of this policy may be on this node, said once more.
fn may(policy: &Policy, node: &Node, here: NodeId) -> bool {
    let by_place = match &policy.placement {
        None | Some(Placement::Anywhere) => true,
        Some(Placement::Local) => node.id == here,
        Some(Placement::Node(id)) => node.id == *id,
        Some(Placement::Host(name)) => node.name == format!("{name}.domain"),
    };
    let has_cpus = policy.cpus.iter().flatten().all(|cpu| *cpu < node.cpus.len());
    let has_gpus = policy.gpus.iter().flatten().all(|gpu| gpu.parse::<usize>().unwrap() < node.gpus.len());
    by_place && has_cpus && has_gpus
}

proptest! {
    #[test]
    fn every_plan_keeps_to_its_policies_or_names_what_is_missing(
        sizes in sizes(), wanted in proptest::collection::vec((policies(), 0..10_usize), 0..5), here in 0..6_usize,
    ) {
        let world = nodes(&sizes);
        let here = NodeId((here % world.len()) as u32);
        let possible = wanted.iter().all(|(policy, _)| world.iter().any(|node| may(policy, node, here)));
        let plan = plan(&wanted, &world, here);
        prop_assert_eq!(plan.is_ok(), possible);
        let Ok(seats) = plan else { return Ok(()) };
        prop_assert_eq!(seats.len(), wanted.iter().map(|(_, number)| number).sum::<usize>());
        let policies = wanted.iter().flat_map(|(policy, number)| std::iter::repeat_n(policy, *number));
        for (seat, policy) in seats.iter().zip(policies) {
            let node = world.iter().find(|node| node.id == seat.node).unwrap();
            prop_assert!(may(policy, node, here));
            prop_assert_eq!(seat.cpus.is_some(), policy.cpus.is_some());
            for cpu in seat.cpus.iter().flatten() {
                prop_assert!(policy.cpus.as_ref().unwrap().contains(cpu));
            }
            prop_assert_eq!(seat.env.is_empty(), policy.gpus.as_ref().is_none_or(|_| seat.gpus.as_ref().unwrap().is_empty() && node.gpus.is_empty()));
        }
    }

    #[test]
    fn round_robin_is_fair_and_block_fills_what_it_begins(sizes in sizes(), number in 0..60_usize) {
        let world = nodes(&sizes);
        let fair = counts(&[(Policy::new().round_robin(), number)], &world);
        prop_assert!(fair.iter().max().unwrap() - fair.iter().min().unwrap() <= 1);
        let block = placed(&[(Policy::new().block(), number)], &world);
        let mut had: BTreeMap<u32, usize> = BTreeMap::new();
        let room: usize = sizes.iter().map(|(cpus, _)| cpus).sum();
        for pair in block[..number.min(room)].windows(2) {
            *had.entry(pair[0]).or_default() += 1;
            prop_assert!(pair[0] == pair[1] || had[&pair[0]] == sizes[pair[0] as usize].0, "left before it was full");
        }
    }
}
