//! `bench`.

use crate::support::{json, run};

#[test]
fn figures_for_programs_and_a_page_for_people() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let arguments = "bench --logic memory --address 0x1003 --sizes 64,100K --time 0.05 --html";
    let object = json(&format!("{arguments} {}", page.display()));
    let results = object["results"].as_array().unwrap();
    let what: Vec<_> =
        results.iter().map(|r| (r["direction"].as_str().unwrap(), r["bytes"].as_u64().unwrap())).collect();
    assert_eq!(what, [("H2C", 64), ("H2C", 102_400), ("C2H", 64), ("C2H", 102_400)]);
    for result in results {
        assert!(
            result["samples"].as_u64().unwrap() > 0 && result["bytes_per_second"].as_f64().unwrap() > 0.0
        );
        for kind in ["submit_ns", "completion_ns", "total_ns"] {
            let at = |name: &str| result[kind][name].as_u64().unwrap();
            assert!(at("p50") <= at("p99.9") && at("p99.9") <= at("p99.999"), "{result}");
        }
        let max = |kind: &str| result[kind]["max"].as_u64().unwrap();
        assert!(max("total_ns") >= max("submit_ns").max(max("completion_ns")), "{result}");
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<svg").count(), 2);
    assert!(page.contains("Throughput by size") && page.contains("C2H p99.9"));
    let outside = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http") && !outside.contains("src="), "it needs nothing from elsewhere");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    run("bench").bad(2, &["--address"]);
    run("bench --address 0 --sizes 0").bad(2, &["1 byte to 1G"]);
    run("bench --address 0 --time 0").bad(2, &["no number of seconds"]);
    run("bench --address 0 --time 0.01 --sizes 64").bad(5, &["AXI decode error"]);
}
