//! What the owner of an account does to volumes, attachments and ids, behind everybody's back.

use crate::{tag::TagLog, world::World};

impl World {
    /// A volume or interface outlives its instance from now on, as if somebody had set `DeleteOnTermination` to false; says
    /// whether there is one of this id.
    pub fn keep(&self, id: &str) -> bool {
        let mut estate = self.estate.lock();
        if let Some(volume) = estate.volumes.get_mut(id) {
            volume.attachment.2 = false;
            return true;
        }
        let interface = estate.interfaces.get_mut(id);
        interface.is_some_and(|interface| {
            interface.goes_along = false;
            true
        })
    }

    /// Gives an instance another id, with what is attached to it: in a world that stands for one of which only ids are known. Says
    /// whether there is such an instance, and none of that id.
    pub fn renumber(&self, id: &str, as_id: &str) -> bool {
        let mut estate = self.estate.lock();
        if estate.instances.contains_key(as_id) {
            return false;
        }
        let Some(mut instance) = estate.instances.remove(id) else {
            return false;
        };
        as_id.clone_into(&mut instance.id);
        for volume in estate.volumes.values_mut().filter(|one| one.attachment.0 == id) {
            as_id.clone_into(&mut volume.attachment.0);
        }
        for interface in estate.interfaces.values_mut().filter(|one| one.instance == id) {
            as_id.clone_into(&mut interface.instance);
        }
        estate.instances.insert(as_id.to_owned(), instance);
        true
    }

    /// The snapshot that a volume was made from; nothing of a blank one.
    pub fn snapshot_of(&self, volume: &str) -> Option<String> {
        self.estate.lock().volumes.get(volume)?.disk.snapshot.clone()
    }

    /// Makes a volume from a backup of another one, with the other's tags, as AWS Backup restores it; its id, if there is such a
    /// volume.
    pub fn restore(&self, volume: &str) -> Option<String> {
        let now = self.clock.elapsed();
        let mut estate = self.estate.lock();
        let mut restored = estate.volumes.get(volume)?.clone();
        restored.id = estate.id("vol");
        restored.disk.snapshot = Some(estate.id("snap"));
        restored.tags = TagLog::new(now, restored.tags.at(now).clone());
        restored.attachment = (String::new(), String::new(), false);
        (restored.created, restored.deleted) = (now, None);
        let id = restored.id.clone();
        estate.volumes.insert(id.clone(), restored);
        Some(id)
    }

    /// Attaches a volume to another instance, which shows it and does not take it along; says whether there are such a volume
    /// and such an instance.
    pub fn attach(&self, volume: &str, instance: &str) -> bool {
        let mut estate = self.estate.lock();
        let known = estate.instances.contains_key(instance);
        let Some(found) = estate.volumes.get_mut(volume).filter(|_| known) else {
            return false;
        };
        let attachment = (instance.to_owned(), "/dev/sdz".to_owned(), false);
        let (before, ..) = std::mem::replace(&mut found.attachment, attachment);
        if let Some(before) = estate.instances.get_mut(&before) {
            before.devices.retain(|(_, id, _)| id != volume);
        }
        if let Some(now) = estate.instances.get_mut(instance) {
            now.devices
                .push(("/dev/sdz".to_owned(), volume.to_owned(), false));
        }
        true
    }
}
