//! The daemon's channels and tenants as a client can tell them apart, without devices: what it takes in which state, and what it
//! refuses.

use std::collections::BTreeMap;

use vfiomux_rpc::{Admin, Change, ChannelInfo, ErrorCode, Method, Oper, Outcome, RpcError, TenantInfo, call};

const GRAIN_BYTES: u64 = 1 << 20;

#[derive(Debug, Clone)]
pub(crate) struct Model {
    /// Everything that a new channel has unless it is asked for otherwise.
    pub(crate) template: ChannelInfo,
    pub(crate) channels: BTreeMap<String, ChannelInfo>,
    pub(crate) tenants: BTreeMap<String, TenantInfo>,
    /// What all sizes may add up to.
    pub(crate) capacity_bytes: u64,
}

impl Model {
    pub(crate) fn new(template: ChannelInfo) -> Self {
        Self { template, channels: BTreeMap::new(), tenants: BTreeMap::new(), capacity_bytes: u64::MAX }
    }

    pub(crate) fn answer(&mut self, method: &Method, change: &Change) -> Result<Outcome, RpcError> {
        Ok(match method {
            Method::ChannelList(_) => self.channels.values().cloned().collect::<Vec<_>>().into(),
            Method::TenantList(_) => self.tenants.values().cloned().collect::<Vec<_>>().into(),
            Method::TenantTune(wanted) => self.tune_tenant(wanted, change)?.into(),
            _ => self.change(method, change)?.into(),
        })
    }

    fn change(&mut self, method: &Method, change: &Change) -> Result<ChannelInfo, RpcError> {
        let before = self.clone();
        let changed = self.change_channel(method, change);
        let too_much = self.channels.values().map(|c| c.size_bytes).sum::<u64>() > self.capacity_bytes;
        let changed =
            changed.and_then(|channel| if too_much { Err(refusal(ErrorCode::NoSpace)) } else { Ok(channel) });
        if change.dry_run || changed.is_err() {
            *self = before;
        }
        changed
    }

    fn change_channel(&mut self, method: &Method, change: &Change) -> Result<ChannelInfo, RpcError> {
        let name = match method {
            Method::ChannelCreate(wanted) => return self.create(wanted),
            Method::ChannelDestroy(call::ChannelDestroy { name, .. })
            | Method::ChannelResume(call::ChannelResume { name })
            | Method::ChannelSuspend(call::ChannelSuspend { name })
            | Method::ChannelDetach(call::ChannelDetach { name })
            | Method::ChannelAttach(call::ChannelAttach { name, .. })
            | Method::ChannelSet(call::ChannelSet { name, .. })
            | Method::ChannelTune(call::ChannelTune { name, .. })
            | Method::ChannelResize(call::ChannelResize { name, .. })
            | Method::ChannelMove(call::ChannelMove { name, .. }) => name,
            _ => return Err(refusal(ErrorCode::MethodNotFound)),
        };
        let channel = self.channels.get_mut(name).ok_or_else(|| refusal(ErrorCode::NotFound))?;
        if change.expected_generation.is_some_and(|expected| expected != channel.generation) {
            return Err(refusal(ErrorCode::Conflict));
        }
        if let Method::ChannelDestroy(_) = method {
            let free = channel.session.is_none();
            return self.channels.remove(name).filter(|_| free).ok_or_else(|| refusal(ErrorCode::Busy));
        }
        carry_out(channel, method)?;
        channel.generation += 1;
        Ok(channel.clone())
    }

    fn create(&mut self, wanted: &call::ChannelCreate) -> Result<ChannelInfo, RpcError> {
        if self.channels.contains_key(&wanted.name) {
            return Err(refusal(ErrorCode::Exists));
        }
        let channel = ChannelInfo {
            name: wanted.name.clone(),
            device: wanted.device.clone(),
            tenant: wanted.tenant.clone(),
            size_bytes: wanted.size_bytes.next_multiple_of(GRAIN_BYTES),
            queues: wanted.queues,
            endpoint: wanted.endpoint.clone(),
            block_bytes: wanted.block_bytes.unwrap_or(512),
            read_only: wanted.read_only,
            guarantees: wanted.guarantees,
            labels: wanted.labels.clone(),
            admin: Admin::Enabled,
            oper: if wanted.endpoint.is_some() { Oper::Listening } else { Oper::Provisioned },
            session: None,
            generation: 1,
            ..self.template.clone()
        };
        self.channels.insert(wanted.name.clone(), channel.clone());
        Ok(channel)
    }

    fn tune_tenant(&mut self, wanted: &call::TenantTune, change: &Change) -> Result<TenantInfo, RpcError> {
        let present = self.tenants.get(&wanted.name).cloned().unwrap_or_default();
        if change.expected_generation.is_some_and(|expected| expected != present.generation) {
            return Err(refusal(ErrorCode::Conflict));
        }
        if change.dry_run {
            return Ok(present);
        }
        let (name, limits) = (wanted.name.clone(), wanted.limits);
        let tuned = TenantInfo { name, limits, generation: present.generation + 1, ..present };
        self.tenants.insert(wanted.name.clone(), tuned.clone());
        Ok(tuned)
    }
}

/// Changes a channel as the lifecycle allows it.
fn carry_out(channel: &mut ChannelInfo, method: &Method) -> Result<(), RpcError> {
    let in_state = |allowed: &[Oper]| {
        let at = channel.oper;
        if allowed.contains(&at) { Ok(()) } else { Err(refusal(ErrorCode::Conflict)) }
    };
    match method {
        Method::ChannelResume(_) => {
            in_state(&[Oper::Suspended])?;
            channel.admin = Admin::Enabled;
            channel.oper = match (&channel.session, &channel.endpoint) {
                (Some(_), _) => Oper::Active,
                (None, Some(_)) => Oper::Listening,
                (None, None) => Oper::Provisioned,
            };
        }
        Method::ChannelSuspend(_) => {
            in_state(&[Oper::Provisioned, Oper::Listening, Oper::Active])?;
            (channel.admin, channel.oper) = (Admin::Suspended, Oper::Suspended);
        }
        Method::ChannelDetach(_) => {
            in_state(&[Oper::Listening, Oper::Active])?;
            (channel.endpoint, channel.session, channel.oper) = (None, None, Oper::Provisioned);
        }
        Method::ChannelAttach(wanted) => {
            in_state(&[Oper::Provisioned])?;
            (channel.endpoint, channel.oper) = (Some(wanted.endpoint.clone()), Oper::Listening);
        }
        Method::ChannelSet(wanted) => {
            if wanted.queues.is_some() || wanted.read_only.is_some() {
                in_state(&[Oper::Provisioned])?;
            }
            channel.queues = wanted.queues.unwrap_or(channel.queues);
            channel.read_only = wanted.read_only.unwrap_or(channel.read_only);
            channel.labels = wanted.labels.clone().unwrap_or_else(|| channel.labels.clone());
        }
        Method::ChannelTune(wanted) => channel.guarantees = wanted.guarantees,
        Method::ChannelResize(wanted) => {
            channel.size_bytes = wanted.size_bytes.next_multiple_of(GRAIN_BYTES);
        }
        Method::ChannelMove(wanted) => channel.device = wanted.device.clone().unwrap_or_default(),
        _ => {}
    }
    Ok(())
}

fn refusal(code: ErrorCode) -> RpcError {
    RpcError::new(code, format!("refused: {code:?}"))
}
