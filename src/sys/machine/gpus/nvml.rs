//! NVIDIA's management library, loaded when it is asked: no headers, nothing to link.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use libloading::Library;

use super::{Found, gpu};
use crate::policy::Vendor;

const NAME: &str = "libnvidia-ml.so.1";
/// Bytes for a text: more than any it gives.
const TEXT: usize = 256;

type Device = *mut c_void;

#[repr(C)]
#[derive(Default)]
struct MemoryInfo {
    total: u64,
    free: u64,
    used: u64,
}

type Plain = unsafe extern "C" fn() -> c_int;
type Count = unsafe extern "C" fn(*mut c_uint) -> c_int;
type ByIndex = unsafe extern "C" fn(c_uint, *mut Device) -> c_int;
type Text = unsafe extern "C" fn(Device, *mut c_char, c_uint) -> c_int;
type Memory = unsafe extern "C" fn(Device, *mut MemoryInfo) -> c_int;
type CountOf = unsafe extern "C" fn(Device, *mut c_uint) -> c_int;
type PartOf = unsafe extern "C" fn(Device, c_uint, *mut Device) -> c_int;

/// The cards in the order of the bus, or their parts where a card is in parts; `None` without the library, its driver, or
/// the right to ask.
pub(super) fn find() -> Option<Vec<Found>> {
    // SAFETY: this is NVIDIA's library, if anything of that name; it is meant to be loaded by any program.
    let library = unsafe { Library::new(NAME) }.ok()?;
    let library = Nvml(library);
    // SAFETY: takes nothing; everything else is called between this and the end.
    let begun = unsafe { library.function::<Plain>(c"nvmlInit_v2")?() };
    let found = (begun == 0).then(|| library.cards());
    if begun == 0 {
        // SAFETY: as begun.
        library.function::<Plain>(c"nvmlShutdown").map(|end| unsafe { end() });
    }
    // It may have left threads or handlers behind: it stays.
    std::mem::forget(library);
    found
}

struct Nvml(Library);

impl Nvml {
    fn function<T: Copy>(&self, name: &CStr) -> Option<T> {
        // SAFETY: every call names a type of this file that is this function's, as NVIDIA documents it.
        unsafe { self.0.get::<T>(name.to_bytes_with_nul()) }.ok().map(|symbol| *symbol)
    }

    fn cards(&self) -> Vec<Found> {
        let mut count = 0;
        let asked = self.function::<Count>(c"nvmlDeviceGetCount_v2");
        // SAFETY: writes a number.
        asked.map(|ask| unsafe { ask(&mut count) });
        (0..count as usize).flat_map(|card| self.card(card).unwrap_or_default()).collect()
    }

    /// A card or its parts; nothing if it may not be used.
    fn card(&self, card: usize) -> Option<Vec<Found>> {
        let mut device: Device = std::ptr::null_mut();
        let ask = self.function::<ByIndex>(c"nvmlDeviceGetHandleByIndex_v2")?;
        // SAFETY: writes a handle.
        if unsafe { ask(card as c_uint, &mut device) } != 0 {
            return None;
        }
        let uuid = self.text(c"nvmlDeviceGetUUID", device)?;
        let model = self.text(c"nvmlDeviceGetName", device).unwrap_or_default();
        let parts: Vec<Found> = self
            .parts(device)
            .into_iter()
            .enumerate()
            .filter_map(|(part, device)| {
                let name = self.text(c"nvmlDeviceGetUUID", device)?;
                let memory = self.memory(device);
                let gpu = gpu(Vendor::Nvidia, name.clone(), name, format!("{model} MIG"), memory);
                Some(Found { card, whole: Some(uuid.clone()), part, gpu })
            })
            .collect();
        if !parts.is_empty() {
            return Some(parts);
        }
        let gpu = gpu(Vendor::Nvidia, card.to_string(), uuid, model, self.memory(device));
        Some(vec![Found { card, whole: None, part: 0, gpu }])
    }

    /// The parts of a card that is in parts (MIG). Libraries from before there were any know of none.
    fn parts(&self, card: Device) -> Vec<Device> {
        let most = || {
            let mut most = 0;
            // SAFETY: writes a number; the handle is a card's.
            let code = unsafe { self.function::<CountOf>(c"nvmlDeviceGetMaxMigDeviceCount")?(card, &mut most) };
            (code == 0).then_some(most)
        };
        let part = |at: c_uint| {
            let mut device: Device = std::ptr::null_mut();
            let ask = self.function::<PartOf>(c"nvmlDeviceGetMigDeviceHandleByIndex")?;
            // SAFETY: writes a handle; places without a part are refused.
            (unsafe { ask(card, at, &mut device) } == 0).then_some(device)
        };
        (0..most().unwrap_or(0)).filter_map(part).collect()
    }

    fn text(&self, function: &CStr, device: Device) -> Option<String> {
        let mut text = [0 as c_char; TEXT];
        // SAFETY: writes at most so many bytes, the last of which is a zero.
        let code = unsafe { self.function::<Text>(function)?(device, text.as_mut_ptr(), TEXT as c_uint - 1) };
        let bytes: Vec<u8> = text.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
        (code == 0).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn memory(&self, device: Device) -> u64 {
        let mut info = MemoryInfo::default();
        let asked = self.function::<Memory>(c"nvmlDeviceGetMemoryInfo");
        // SAFETY: writes the three numbers.
        let code = asked.map(|ask| unsafe { ask(device, &mut info) });
        if code == Some(0) { info.total } else { 0 }
    }
}
