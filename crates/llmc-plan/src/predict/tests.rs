//! Probes are what they say, and predictions grow with sizes.

use super::*;

/// A calibration in which a launch takes 1 µs and a nanosecond per word that its sizes multiply to,
/// twice as long from memory.
fn made_up() -> Calibration {
    let mut curves = BTreeMap::new();
    for probe in PROBES {
        let mut axes: Vec<Vec<u64>> = probe.axes.iter().map(|a| a.points.to_vec()).collect();
        axes.push(probe.distances.to_vec());
        let mut growth: Vec<u32> = probe.axes.iter().map(|a| a.growth).collect();
        growth.push(0);
        let mut points = vec![Vec::new()];
        for axis in &axes {
            points = points
                .iter()
                .flat_map(|p: &Vec<u64>| axis.iter().map(|x| [&p[..], &[*x]].concat()))
                .collect();
        }
        let time = |point: &Vec<u64>| {
            let (sizes, distance) = point.split_at(point.len() - 1);
            let work: u64 = sizes.iter().product();
            (1_000_000 + work * 1000) * (1 + u64::from(distance[0] >= 64 << 20))
        };
        let picoseconds = points.iter().map(time).collect();
        curves.insert(probe.class.to_string(), Curve { axes, growth, picoseconds });
    }
    Calibration { curves, mixes: Vec::new() }
}

#[test]
fn every_probe_is_planned_as_a_launch_of_its_class_and_sizes() {
    for probe in PROBES {
        let module = probe.module();
        let found = llmc_ir::verify::verify(&module);
        assert!(found.is_empty(), "{}: {found:#?}", probe.class);
        for pick in [0, 1, usize::MAX] {
            let size = |a: &Axis| a.points[pick.min(a.points.len() - 1)];
            let sizes: Vec<u64> = probe.axes.iter().map(size).collect();
            let (_, launch) = probe.plan(&module, &sizes).unwrap();
            let launch = launch.unwrap_or_else(|| panic!("`{}` has no launch", probe.class));
            let found = class_of(&launch).unwrap();
            let times = if probe.class == "evaluate" { 3 } else { 1 };
            let wanted: Vec<u64> = sizes.iter().map(|s| s * times).collect();
            assert_eq!((found.class, &found.sizes), (probe.class, &wanted));
            assert!((found.share - 1.0).abs() < 1e-12, "{}", probe.class);
        }
    }
    let mut names: Vec<&str> = PROBES.iter().map(|p| p.class).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), PROBES.len());
}

#[test]
fn a_curve_meets_its_points_and_rises_between_and_beyond() {
    let calibration = made_up();
    for (class, curve) in &calibration.curves {
        assert!(curve.is_whole(), "{class}");
        let first: Vec<f64> = curve.axes.iter().map(|a| a[0] as f64).collect();
        let at = |sizes: &[f64]| curve.seconds(sizes);
        let expected = curve.picoseconds[0] as f64 * 1e-12;
        assert!((at(&first) / expected - 1.0).abs() < 1e-9, "{class}");
        for axis in 0..curve.axes.len() {
            let mut sizes: Vec<f64> = curve.axes.iter().map(|a| a[a.len() / 2] as f64).collect();
            let mut last = 0.0;
            for step in 0..60 {
                sizes[axis] = libm::pow(1.6, f64::from(step));
                let now = at(&sizes);
                assert!(now >= last * (1.0 - 1e-12), "{class}: axis {axis} at {sizes:?}");
                last = now;
            }
        }
    }
}

#[test]
fn beyond_the_last_point_time_grows_with_the_power_of_its_axis() {
    let curve = Curve {
        axes: vec![vec![2, 8], vec![1]],
        growth: vec![2, 0],
        picoseconds: vec![1000, 16_000],
    };
    assert!((curve.seconds(&[16.0, 5.0]) / 64e-9 - 1.0).abs() < 1e-9);
    // The geometric mean half way, and the first point below the grid.
    assert!((curve.seconds(&[4.0, 1.0]) / 4e-9 - 1.0).abs() < 1e-9);
    assert!((curve.seconds(&[1.0, 1.0]) / 1e-9 - 1.0).abs() < 1e-9);
}

#[test]
fn disturbed_points_are_cut_to_those_of_larger_sizes() {
    let curve = Curve {
        axes: vec![vec![1, 2], vec![1, 2, 3], vec![1, 2]],
        growth: vec![1, 1, 0],
        picoseconds: vec![1, 9, 2, 5, 3, 6, 7, 8, 1, 9, 4, 7],
    };
    let rising = curve.rising();
    // Along both sizes, and not along the distance.
    assert_eq!(rising.picoseconds, [1, 5, 1, 5, 3, 6, 1, 7, 1, 7, 4, 7]);
    let whole = |curve: Curve| curve.is_whole();
    assert!(whole(rising.clone()));
    assert!(!whole(Curve { picoseconds: vec![1; 11], ..rising.clone() }));
    assert!(!whole(Curve { picoseconds: vec![0; 12], ..rising.clone() }));
    assert!(!whole(Curve { growth: vec![1], ..rising }));
}

#[test]
fn a_window_takes_its_share_and_a_far_operand_its_time() {
    let calibration = made_up();
    let probe = PROBES.iter().find(|p| p.class == "attention").unwrap();
    let (_, launch) = probe.plan(&probe.module(), &[2, 64, 16]).unwrap();
    let mut launch = launch.unwrap();
    let near = vec![1.0; 16];
    let whole = calibration.launch(&launch, &near).seconds;
    if let llmc_ir::Op::Attention(op) = &mut launch.op {
        op.window = Some(1);
    }
    let one = calibration.launch(&launch, &near).seconds;
    assert!((whole / one - 65.0 / 2.0).abs() < 1e-6, "{whole} {one}");

    let probe = PROBES.iter().find(|p| p.class == "add").unwrap();
    let (_, launch) = probe.plan(&probe.module(), &[2048]).unwrap();
    let launch = launch.unwrap();
    let seconds = |distances: [f64; 3]| calibration.launch(&launch, &distances).seconds;
    let (near, far) = (seconds([1.0; 3]), seconds([1e12; 3]));
    assert!((far / near - 2.0).abs() < 1e-9);
    assert!((seconds([1.0, 1.0, 1e12]) - (2.0 * near + far) / 3.0).abs() < 1e-15);
}

#[test]
fn distances_are_those_of_a_plan_that_runs_again_and_again() {
    // v1 is read at once; x is as far as one round.
    let text = "module @m { fn @main(%x: f32[8192]) -> (y: f32[8192]) {
        %v1 = relu(%x) : f32[8192] %y = relu(%v1) : f32[8192] return %y } }";
    let module = llmc_ir::text::parse(text).unwrap();
    let mut space = crate::AddressSpace::default();
    let entry = module.find("main").unwrap();
    let plan = crate::plan(&module, entry, &Default::default(), &mut space).unwrap();
    let found = reuse(&[&plan]);
    let bytes = f64::from(8192 * 4);
    let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-9;
    let [first, second] = &found[0][..] else { panic!("{found:?}") };
    assert!(near(first[0], bytes * 3.0), "{first:?}");
    assert_eq!(second[0], 1.0);
    // Two plans: the other one lies between.
    let both = reuse(&[&plan, &plan]);
    assert_eq!(both[0].len(), 2);
    assert!(near(both[1][0][0], bytes * 3.0));
}

#[test]
fn mixes_are_planned_and_every_launch_has_a_class() {
    for sizes in MIXES {
        let found = llmc_ir::verify::verify(&mix::module(sizes));
        assert!(found.is_empty(), "{found:#?}");
        let plan = mix_plan(sizes).unwrap();
        assert!(plan.launches.len() > 100 && plan.flops > 0);
        assert!(plan.launches.iter().all(|l| class_of(l).is_some()));
    }
}

#[test]
fn a_launch_between_others_takes_longer_by_its_length() {
    let mix = |picoseconds, permille| Mix { picoseconds, permille };
    let mixes = [mix(1000, 1000), mix(100_000, 1200)];
    let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found}");
    near(mix::factor(&mixes, 1.0), 1.0);
    near(mix::factor(&mixes, 10_000.0), 1.1);
    near(mix::factor(&mixes, 1e9), 1.2);
    near(mix::factor(&[], 5.0), 1.0);
    // What is not in order counts by its last.
    near(mix::factor(&[mix(10, 1100), mix(10, 1300)], 5.0), 1.3);
    let mut calibration = made_up();
    let probe = PROBES.iter().find(|p| p.class == "add").unwrap();
    let (_, launch) = probe.plan(&probe.module(), &[2048]).unwrap();
    let launch = launch.unwrap();
    let alone = calibration.launch(&launch, &[1.0; 3]).seconds;
    calibration.mixes = vec![mix(1, 1250), mix(2, 1250)];
    let between = calibration.launch(&launch, &[1.0; 3]).seconds;
    near(between / alone, 1.25);
}
