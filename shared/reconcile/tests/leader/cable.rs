//! A candidate's connection to the API server, and what can be done to it.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use http::{Method, Request};
use kube::client::Body;
use reconcile::client::{ClientOptions, WireLayer, WireService, wire_layer};
use tower::{ServiceExt, layer::layer_fn, service_fn};

/// What the connection of a candidate does to requests that would change something.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Fault {
    Nothing,
    /// Every request hangs, reads and watches included.
    Hang,
    /// The next write takes effect, its answer is lost.
    LoseAnswer,
}

#[derive(Clone, Default)]
pub struct Cable(Arc<AtomicU8>);

impl Cable {
    pub fn set(&self, fault: Fault) {
        self.0.store(fault as u8, Ordering::SeqCst);
    }

    fn layer(&self) -> WireLayer {
        let cable = self.clone();
        wire_layer(layer_fn(move |inner: WireService| {
            let cable = cable.clone();
            service_fn(move |request: Request<Body>| {
                let (cable, inner) = (cable.clone(), inner.clone());
                async move {
                    let writes = request.method() != Method::GET;
                    if cable.0.load(Ordering::SeqCst) == Fault::Hang as u8 {
                        std::future::pending::<()>().await;
                    }
                    let answer = inner.oneshot(request).await;
                    let lose = Fault::LoseAnswer as u8;
                    let nothing = Fault::Nothing as u8;
                    let swap = |()| {
                        cable
                            .0
                            .compare_exchange(lose, nothing, Ordering::SeqCst, Ordering::SeqCst)
                    };
                    if writes && swap(()).is_ok() {
                        return Err("the answer was lost".into());
                    }
                    answer
                }
            })
        }))
    }

    pub fn options(&self) -> ClientOptions {
        ClientOptions {
            wire: Some(self.layer()),
            ..ClientOptions::new("test-operator/1.0")
        }
    }
}
