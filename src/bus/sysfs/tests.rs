use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// Creates the sysfs tree of a card at 0000:00:1d.0 behind an IOMMU.
fn tree() -> (TempDir, Sysfs) {
    let root = tempfile::tempdir().unwrap();
    let device = root.path().join("sys/bus/pci/devices/0000:00:1d.0");
    let group = root.path().join("sys/kernel/iommu_groups/7");
    fs::create_dir_all(&device).unwrap();
    fs::create_dir_all(group.join("devices/0000:00:1d.0")).unwrap();
    fs::create_dir_all(device.join("vfio-dev/vfio3")).unwrap();
    let files = [
        ("vendor", "0x1d0f\n"),
        ("device", "0xf001\n"),
        ("class", "0x058000\n"),
        ("driver_override", "(null)\n"),
        ("numa_node", "1\n"),
        ("current_link_speed", "5.0 GT/s PCIe\n"),
        ("current_link_width", "8\n"),
        ("max_link_speed", "8.0 GT/s PCIe\n"),
        ("max_link_width", "16\n"),
        ("reset_method", "flr bus\n"),
    ];
    for (name, text) in files {
        fs::write(device.join(name), text).unwrap();
    }
    fs::write(device.join("vfio-dev/vfio3/dev"), "243:3\n").unwrap();
    let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
    let bar =
        |start: u64, size: u64| format!("{start:#018x} {:#018x} 0x000000000014220c\n", start + size - 1);
    let lines = [bar(0x8000_0000, 32 << 20), none.into(), bar(0x9000_0000, 0x10000), none.into()].concat();
    fs::write(device.join("resource"), lines + &bar(0, 1 << 37) + none).unwrap();
    symlink("../../../../bus/pci/drivers/xdma", device.join("driver")).unwrap();
    symlink("../../../../kernel/iommu_groups/7", device.join("iommu_group")).unwrap();
    let sysfs = Sysfs::new(root.path());
    (root, sysfs)
}

fn card(sysfs: &Sysfs) -> Function {
    sysfs.function("00:1d.0".parse().unwrap()).unwrap()
}

#[test]
fn all_attributes_of_a_card_are_read() {
    let (_root, sysfs) = tree();
    let card = card(&sysfs);
    assert_eq!((card.vendor().unwrap(), card.device().unwrap()), (0x1d0f, 0xf001));
    assert_eq!(card.class().unwrap(), 0x058000);
    assert!(!card.is_bridge().unwrap());
    assert_eq!(card.driver().unwrap().as_deref(), Some("xdma"));
    assert_eq!(card.driver_override().unwrap(), None);
    assert_eq!(card.numa_node().unwrap(), Some(1));
    assert_eq!(card.reset_methods().unwrap(), ["flr", "bus"]);
    assert_eq!(card.vfio_device().unwrap().as_deref(), Some("vfio3"));
    assert_eq!(card.bars().unwrap(), [32 << 20, 0, 0x10000, 0, 1 << 37, 0]);
    let link = card.link().unwrap().unwrap();
    assert_eq!((link.now.to_string(), link.most.to_string()), ("5.0 GT/s x8".into(), "8.0 GT/s x16".into()));
    assert!(link.is_degraded());
    let group = card.iommu_group().unwrap().unwrap();
    assert_eq!((group.number, group.no_iommu, group.node().as_str()), (7, false, "7"));
    assert_eq!(group.members, [card.address()]);
}

#[test]
fn functions_are_sorted_and_invalid_names_omitted() {
    let (root, sysfs) = tree();
    for name in ["0000:af:00.0", "0000:00:02.0", "10000:e1:00.0", "nonsense"] {
        fs::create_dir(root.path().join("sys/bus/pci/devices").join(name)).unwrap();
    }
    let listed: Vec<_> = sysfs.functions().unwrap().iter().map(|f| f.address().to_string()).collect();
    assert_eq!(listed, ["0000:00:02.0", "0000:00:1d.0", "0000:af:00.0", "10000:e1:00.0"]);
}

#[test]
fn errors_name_the_missing_function_or_directory() {
    let (_root, sysfs) = tree();
    let error = sysfs.function("00:1e.0".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("0000:00:1e.0") && error.contains("lspci -D"), "{error}");
    let error = Sysfs::new("/nonexistent").functions().unwrap_err().to_string();
    assert!(error.contains("/nonexistent/sys/bus/pci/devices"), "{error}");
}

#[test]
fn missing_attributes_are_none() {
    let root = tempfile::tempdir().unwrap();
    let device = root.path().join("sys/bus/pci/devices/0000:00:1d.0");
    fs::create_dir_all(device).unwrap();
    let sysfs = Sysfs::new(root.path());
    let card = card(&sysfs);
    assert_eq!(card.driver().unwrap(), None);
    assert_eq!(card.driver_override().unwrap(), None);
    assert_eq!(card.iommu_group().unwrap(), None);
    assert_eq!(card.numa_node().unwrap(), None);
    assert_eq!(card.link().unwrap(), None);
    assert_eq!(card.vfio_device().unwrap(), None);
    assert!(card.reset_methods().unwrap().is_empty());
    assert!(card.vendor().is_err() && card.class().is_err() && card.bars().is_err());
}

#[test]
fn a_no_iommu_group_is_recognised_by_its_name() {
    let (root, sysfs) = tree();
    let group = root.path().join("sys/kernel/iommu_groups/7");
    fs::write(group.join("name"), "vfio-noiommu\n").unwrap();
    fs::create_dir(group.join("devices/AMDI0010:00")).unwrap();
    let group = card(&sysfs).iommu_group().unwrap().unwrap();
    assert!(group.no_iommu);
    assert_eq!(group.node(), "noiommu-7");
    assert_eq!(group.others, ["AMDI0010:00"]);
}

#[test]
fn without_a_device_number_there_is_no_node() {
    let (root, sysfs) = tree();
    fs::remove_file(root.path().join("sys/bus/pci/devices/0000:00:1d.0/vfio-dev/vfio3/dev")).unwrap();
    assert_eq!(card(&sysfs).vfio_device().unwrap(), None);
}

#[test]
fn bridges_and_unknown_link_states_are_recognised() {
    let (root, sysfs) = tree();
    let device = root.path().join("sys/bus/pci/devices/0000:00:1d.0");
    fs::write(device.join("class"), "0x060400\n").unwrap();
    assert!(card(&sysfs).is_bridge().unwrap());
    fs::write(device.join("numa_node"), "-1\n").unwrap();
    assert_eq!(card(&sysfs).numa_node().unwrap(), None);
    for (file, text) in
        [("max_link_speed", "Unknown\n"), ("current_link_width", "0\n"), ("max_link_width", "255\n")]
    {
        let good = fs::read(device.join(file)).unwrap();
        fs::write(device.join(file), text).unwrap();
        assert_eq!(card(&sysfs).link().unwrap(), None, "{file}");
        fs::write(device.join(file), good).unwrap();
    }
    fs::write(device.join("current_link_speed"), "8 GT/s\n").unwrap();
    assert_eq!(card(&sysfs).link().unwrap().unwrap().now.megatransfers, 8000);
}

#[test]
fn unexpected_contents_are_an_error_that_names_the_file() {
    let (root, sysfs) = tree();
    let device = root.path().join("sys/bus/pci/devices/0000:00:1d.0");
    let garbage: [&[u8]; 6] =
        [b"", b"\xff\xfe", b"0x", b"0x+1", b"99999999999999999999", b"0x123456789abcdef01"];
    for bytes in garbage {
        for file in ["vendor", "class", "resource", "numa_node", "current_link_speed", "max_link_width"] {
            let good = fs::read(device.join(file)).unwrap();
            fs::write(device.join(file), bytes).unwrap();
            let card = card(&sysfs);
            let error = match file {
                "vendor" => card.vendor().map(drop),
                "class" => card.class().map(drop),
                "numa_node" => card.numa_node().map(drop),
                "resource" if bytes.is_empty() => Err(SysfsError::garbage(&device.join(file), "", "")),
                "resource" => card.bars().map(drop),
                _ => card.link().map(drop),
            };
            let error = error.unwrap_err().to_string();
            assert!(error.contains(file), "{file} {bytes:?}: {error}");
            fs::write(device.join(file), good).unwrap();
        }
    }
    fs::remove_file(device.join("iommu_group")).unwrap();
    symlink("../seven", device.join("iommu_group")).unwrap();
    assert!(card(&sysfs).iommu_group().unwrap_err().to_string().contains("`seven`"));
    fs::remove_file(device.join("driver")).unwrap();
    symlink("..", device.join("driver")).unwrap();
    assert!(card(&sysfs).driver().is_err());
}

#[test]
fn endless_files_are_an_error_that_names_the_file() {
    let (root, sysfs) = tree();
    let vendor = root.path().join("sys/bus/pci/devices/0000:00:1d.0/vendor");
    let error = || card(&sysfs).vendor().unwrap_err().to_string();
    fs::remove_file(&vendor).unwrap();
    for endless in ["/dev/zero", "/"] {
        symlink(endless, &vendor).unwrap();
        assert!(error().contains("vendor: it is not a regular file"), "{}", error());
        fs::remove_file(&vendor).unwrap();
    }
    fs::File::create(&vendor).unwrap().set_len(1 << 40).unwrap();
    assert!(error().contains("vendor: it is longer than"), "{}", error());
}

#[test]
fn a_bar_that_ends_before_it_starts_is_rejected() {
    assert_eq!(bar_size("0x10 0x0f 0x0"), Some(0));
    assert_eq!(bar_size("0x10 0x10 0x1"), Some(1));
    assert_eq!(bar_size("0x10 0x0e 0x1"), None);
    assert_eq!(bar_size("0x0 0xffffffffffffffff 0x1"), None);
    assert_eq!(bar_size("0x0 0x0"), None);
}
