//! Every engine's tests, once more on a bad network.

use std::time::Duration;

use super::{Lossy, Weather};
use crate::transport::conformance::{Bed, conformance};
use crate::transport::tcp::tests::beds;
use crate::transport::{Engine, Settings, Tcp};

/// As bad as the real thing, and ten times faster.
const WEATHER: Weather =
    Weather { loss: 0.05, delay: Duration::from_millis(10), again: Duration::from_millis(20), breaks: 0.05 };

struct Bad;

impl Bed for Bad {
    const SLOWER: u64 = 20;

    fn engines(count: u32) -> Vec<Box<dyn Engine>> {
        let open = |node| {
            let tcp = Tcp::open(beds::identity(node), beds::settings(), beds::tuning()).unwrap();
            Box::new(Lossy::around(Box::new(tcp), WEATHER).unwrap()) as Box<dyn Engine>
        };
        let mut engines: Vec<_> = (0..count).map(open).collect();
        beds::introduce(&mut engines);
        engines
    }
}

conformance!(Bad);

#[test]
fn the_weather_is_read_from_the_setting() {
    let read = |text: &str| {
        let settings = Settings::read(|knob| (knob == "DRAGON_TRANSPORT").then(|| text.to_string()));
        settings.map(|settings| settings.lossy)
    };
    assert_eq!((read("auto").unwrap(), read("tcp").unwrap()), (None, None));
    assert_eq!(read("lossy+tcp").unwrap(), Some(Weather::default()));
    let weather = read("lossy:1:20+tcp").unwrap().unwrap();
    assert!((weather.loss - 0.01).abs() < 1e-9 && weather.delay == Duration::from_millis(20));
    for wrong in ["udp", "lossy", "lossy:x+tcp", "lossy:99+tcp", "lossy:1:2:3+tcp", "lossy+ofi"] {
        let said = read(wrong).unwrap_err().to_string();
        assert!(said.contains("DRAGON_TRANSPORT") && said.contains(wrong), "{said}");
    }
}
