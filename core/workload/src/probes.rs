//! Probes and life-cycle hooks: what runs in the container is in the plan, what comes over the network is not.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::env::Env;
use crate::expand::expand;
use crate::fields::Fields;
use crate::log::Log;

/// What a container lets the host run, and by which signal it is asked to stop.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    pub(crate) commands: Vec<Vec<String>>,
    pub(crate) stop_signal: Option<String>,
}

const TIMES: [&str; 6] = [
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
    "terminationGracePeriodSeconds",
];

impl Hooks {
    /// Reads probes and `lifecycle`. `ports` are the container's, by name.
    pub(crate) fn read(
        container: &mut Fields<'_>,
        env: &Env,
        ports: &BTreeMap<String, u16>,
        log: &mut Log,
    ) -> Hooks {
        let mut hooks = Hooks::default();
        for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
            let Some(mut probe) = container.object(name, log) else { continue };
            for time in TIMES {
                if probe.number(time, log).is_some_and(|n| n < 0) {
                    log.wrong(&probe.path(time), "must not be negative");
                }
            }
            // Commands of probes know the variables as they are written, and no others.
            hooks.handler(
                &mut probe,
                ports,
                |text| expand(text, |n| env.written(n)).unwrap_or_default(),
                log,
            );
            probe.finish(log);
        }
        if let Some(mut lifecycle) = container.object("lifecycle", log) {
            hooks.stop_signal = lifecycle.text("stopSignal", log).map(str::to_owned);
            for name in ["postStart", "preStop"] {
                let Some(mut hook) = lifecycle.object(name, log) else { continue };
                hooks.handler(&mut hook, ports, str::to_owned, log);
                hook.finish(log);
            }
            lifecycle.finish(log);
        }
        hooks
    }

    fn handler(
        &mut self,
        owner: &mut Fields<'_>,
        ports: &BTreeMap<String, u16>,
        expand: impl Fn(&str) -> String,
        log: &mut Log,
    ) {
        let mut found = 0;
        if let Some(mut exec) = owner.object("exec", log) {
            found += 1;
            let command: Vec<String> = exec.texts("command", log).iter().map(|t| expand(t)).collect();
            let at = exec.path("command");
            exec.finish(log);
            if command.is_empty() {
                log.wrong(&at, "names no program");
            } else {
                log.fixed(&at, command.join(" "), "the host may run exactly this, whenever it wants");
                if !self.commands.contains(&command) {
                    self.commands.push(command);
                }
            }
        }
        for name in ["httpGet", "tcpSocket", "grpc"] {
            let Some(mut request) = owner.object(name, log) else { continue };
            found += 1;
            request.text("host", log);
            request.text("path", log);
            request.text("service", log);
            request.one_of("scheme", log, &["HTTP", "HTTPS"]);
            request.list("httpHeaders", log);
            let at = request.path("port");
            match request.take("port") {
                Some(Value::String(port)) if ports.contains_key(port) || port.parse::<u16>().is_ok() => {}
                Some(Value::Number(port)) if port.as_u64().is_some_and(|p| (1..=65535).contains(&p)) => {}
                None => log.wrong(&at, "is missing"),
                Some(_) => log.wrong(&at, "is no port of the container"),
            }
            log.open(&request.at, "over the pod's network", "kubelet asks as anybody in the network can");
            request.finish(log);
        }
        if let Some(mut sleep) = owner.object("sleep", log) {
            found += 1;
            sleep.number("seconds", log);
            log.open(&sleep.at, "kubelet waits", "nothing runs in the container");
            sleep.finish(log);
        }
        if found != 1 {
            log.wrong(&owner.at, "must have one of exec, httpGet, tcpSocket and grpc");
        }
    }
}
