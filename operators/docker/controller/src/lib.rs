//! A Cluster API infrastructure provider whose machines are containers.

pub mod archive;
pub mod bootstrap;
pub mod cli;
pub mod cloud_config;
pub mod contract;
pub mod controllers;
pub mod digest;
pub mod engine;
pub mod identity;
pub mod kubeadm;
pub mod launch;
pub mod load_balancer;
pub mod manager;
pub mod network;
pub mod node;
mod sabotage;
pub mod storage;
