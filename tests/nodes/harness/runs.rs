//! Repeated measurements.

/// Returns the number of repetitions: `RUNS`, or this number.
pub fn runs(otherwise: usize) -> usize {
    std::env::var("RUNS").map_or(otherwise, |runs| runs.parse().expect("RUNS is a number"))
}

/// Describes times in milliseconds by their median and the worst one.
pub fn summary(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let [.., worst] = times[..] else { panic!("nothing was measured") };
    let median = times[(times.len() - 1) / 2];
    format!("{median:.0} ms in the median, {worst:.0} ms at worst, of {}", times.len())
}

#[test]
fn times_are_described_by_median_and_worst() {
    assert_eq!(summary(vec![30.0, 10.0, 20.4]), "20 ms in the median, 30 ms at worst, of 3");
    assert_eq!(summary(vec![4.0, 1.0, 3.0, 2.0]), "2 ms in the median, 4 ms at worst, of 4");
}
