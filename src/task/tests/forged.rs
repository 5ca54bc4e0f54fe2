//! Names of functions that never were: refused, all of them, and never followed.

use proptest::prelude::*;

use super::*;
use crate::sys::image;
use crate::task::{TaskError, image_path, load};

fn add_one(x: u32) -> u32 {
    x + 1
}

/// A name's four words: image (2), offset, identity.
fn words() -> [u64; 4] {
    bytemuck::cast(reference(thunk::one(add_one)).unwrap())
}

fn tried(words: [u64; 4]) -> Result<&'static Thunk, TaskError> {
    resolve(&bytemuck::cast(words))
}

#[test]
fn a_name_leads_back() {
    let thunk = thunk::one(add_one);
    let name = reference(thunk).unwrap();
    assert!(std::ptr::eq(resolve(&name).unwrap(), thunk));
    assert_eq!(reference(thunk).unwrap(), name);
    assert!(thunk.name().ends_with("add_one"));
    assert_eq!(image_path(&name), None);
    let mut bytes = Vec::new();
    wire::encode(&name, &mut bytes).unwrap();
    assert_eq!(wire::decode::<FnRef>(&bytes).unwrap(), name);
}

#[test]
fn every_word_is_checked() {
    let good = words();
    assert!(tried(good).is_ok());
    for word in [0, 1] {
        let mut bad = good;
        bad[word] ^= 1;
        assert!(tried(bad).unwrap_err().to_string().contains("not the same build"));
    }
    let mut bad = good;
    bad[3] ^= 1;
    let error = tried(bad).unwrap_err();
    assert!(matches!(error, TaskError::OtherFunction { .. }) && error.to_string().contains("add_one"), "{error}");
    for (offset, why) in [(good[2] + 4, "aligned"), (u64::MAX, "constants"), (1 << 40, "constants"), (0, "mark")] {
        let mut bad = good;
        bad[2] = offset;
        assert!(tried(bad).unwrap_err().to_string().contains(why), "{offset:#x}");
    }
}

#[test]
fn the_worker_refuses_too() {
    let mut worker = Worker::new();
    let mut bad = words();
    bad[0] ^= 1;
    let refused = worker.run_named(bytemuck::cast(bad), vec![]).unwrap_err();
    assert!(matches!(&refused, Trouble::Unknown(why) if why.contains("not the same build")), "{refused:?}");
    assert_eq!(worker.call(add_one, 1).unwrap(), 2);
}

#[test]
fn images_are_loaded_only_if_they_are_the_right_build() {
    let bad: FnRef = bytemuck::cast([1u64, 2, 3, 4]);
    let missing = load(&bad, "/nowhere/plugin.so".as_ref()).unwrap_err();
    assert!(matches!(&missing, TaskError::Load { .. }) && missing.to_string().contains("/nowhere"), "{missing}");
    let library =
        image::visit(|image| (!image.is_main() && image.path().is_absolute()).then(|| image.path().to_owned()));
    let other = load(&bad, &library.unwrap()).unwrap_err();
    assert!(matches!(other, TaskError::OtherBuild(_)), "{other}");
    // One that is here already needs no file.
    assert!(load(&bytemuck::cast(words()), "/nowhere".as_ref()).is_ok());
}

#[test]
fn nothing_near_a_function_is_taken_for_it() {
    let good = words();
    let near = good[2].saturating_sub(1 << 14)..good[2] + (1 << 14);
    for offset in near.step_by(8) {
        let found = tried([good[0], good[1], offset, good[3]]);
        assert!(found.is_err() || found.unwrap().name().ends_with("add_one"));
    }
}

#[test]
fn ways_to_call_one_function_are_told_apart() {
    let (one, many) = (thunk::one(add_one), thunk::many(add_one));
    let names = [one, many].map(|thunk| bytemuck::cast::<_, [u64; 4]>(reference(thunk).unwrap()));
    assert_ne!(names[0][3], names[1][3]);
    let crossed = [names[0][0], names[0][1], names[0][2], names[1][3]];
    assert!(matches!(tried(crossed), Err(TaskError::OtherFunction { .. })));
}

#[test]
fn a_descriptor_that_could_be_overwritten_is_not_named() {
    let copy = Thunk { ..*thunk::one(add_one) };
    let leaked: &'static Thunk = Box::leak(Box::new(copy));
    assert!(matches!(reference(leaked), Err(TaskError::Unsealed { .. })));
}

#[test]
fn a_descriptor_of_another_make_is_refused() {
    // As constant as a real one, so that only its kin gives it away.
    static STRANGE: Thunk = Thunk {
        magic: thunk::MAGIC,
        call: |_| Ok(()),
        name: || "strange",
        identity: || "strange",
        kin: std::any::TypeId::of::<u8>(),
    };
    let name = reference(&STRANGE).unwrap();
    assert!(resolve(&name).unwrap_err().to_string().contains("another compiler"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn forged_names_are_refused(offset in prop_oneof![any::<u64>(), 0..1u64 << 27], identity: u64, image: [u64; 2], own: bool) {
        let image = if own { [words()[0], words()[1]] } else { image };
        prop_assert!(tried([image[0], image[1], offset, identity]).is_err());
        prop_assert!(tried([image[0], image[1], offset & !7, identity]).is_err());
    }
}
