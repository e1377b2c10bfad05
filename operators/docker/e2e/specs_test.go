// Package e2e runs Cluster API's own specs, unmodified, against this provider.
//
// The management cluster, its managers and clusterctl's repository are somebody else's to make: the test
// `smoke_upstreams_own_quick_start_passes` of the controller. The environment tells where they are:
//
//	KUBECONFIG          the management cluster, where `clusterctl init` was run
//	CLUSTERCTL_CONFIG   clusterctl's configuration, with a repository of every provider
//	KUBERNETES_VERSION  of the workload clusters, with its v
//	ARTIFACTS           a folder for what the specs write down
package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	clusterctlcluster "sigs.k8s.io/cluster-api/cmd/clusterctl/client/cluster"
	"sigs.k8s.io/cluster-api/test/e2e"
	"sigs.k8s.io/cluster-api/test/framework"
	"sigs.k8s.io/cluster-api/test/framework/clusterctl"
	ctrl "sigs.k8s.io/controller-runtime"
)

const provider = "capdkc"

// The finalizers of this provider, where upstream's map names those of its own.
var finalizers = map[string]func(types.NamespacedName) []string{
	"DockerCluster": func(types.NamespacedName) []string {
		return []string{"capdkc.cluster.x-k8s.io/dockercluster"}
	},
	"DockerMachine": func(types.NamespacedName) []string {
		return []string{"capdkc.cluster.x-k8s.io/dockermachine"}
	},
}

// Owners are set by Cluster API, so that upstream's map holds as it is.
type owners = map[string]func(types.NamespacedName, []metav1.OwnerReference) error

var (
	ctx    = context.Background()
	config = &clusterctl.E2EConfig{
		Variables: map[string]string{e2e.KubernetesVersion: os.Getenv("KUBERNETES_VERSION")},
		// Upstream's own, of test/e2e/config/docker.yaml.
		Intervals: map[string][]string{
			"default/wait-cluster":                         {"5m", "10s"},
			"default/wait-control-plane":                   {"10m", "10s"},
			"default/wait-worker-nodes":                    {"5m", "10s"},
			"default/wait-delete-cluster":                  {"3m", "10s"},
			"default/wait-resource-versions-become-stable": {"2m", "15s"},
			"default/wait-resource-versions-remain-stable": {"2m", "5s"},
		},
	}
	artifacts = os.Getenv("ARTIFACTS")
	home      framework.ClusterProxy
)

func TestSpecs(t *testing.T) {
	ctrl.SetLogger(klog.Background())
	RegisterFailHandler(Fail)
	RunSpecs(t, "capdkc")
}

var _ = BeforeSuite(func() {
	for _, name := range []string{"KUBECONFIG", "CLUSTERCTL_CONFIG", e2e.KubernetesVersion, "ARTIFACTS"} {
		Expect(os.Getenv(name)).NotTo(BeEmpty(), "%s is not set; run `cargo xtask test --full upstreams`", name)
	}
	scheme := runtime.NewScheme()
	framework.TryAddDefaultSchemes(scheme)
	home = framework.NewClusterProxy("home", os.Getenv("KUBECONFIG"), scheme)
})

var _ = AfterSuite(func() {
	if home != nil {
		home.Dispose(ctx)
	}
})

var _ = Describe("QuickStartSpec", func() {
	e2e.QuickStartSpec(ctx, func() e2e.QuickStartSpecInput {
		return e2e.QuickStartSpecInput{
			E2EConfig:               config,
			ClusterctlConfigPath:    os.Getenv("CLUSTERCTL_CONFIG"),
			BootstrapClusterProxy:   home,
			ArtifactFolder:          filepath.Join(artifacts, "quick-start"),
			InfrastructureProvider:  ptr.To(provider),
			PostMachinesProvisioned: holds,
		}
	})
})

var _ = Describe("MachineDeploymentScaleSpec", func() {
	e2e.MachineDeploymentScaleSpec(ctx, func() e2e.MachineDeploymentScaleSpecInput {
		return e2e.MachineDeploymentScaleSpecInput{
			E2EConfig:              config,
			ClusterctlConfigPath:   os.Getenv("CLUSTERCTL_CONFIG"),
			BootstrapClusterProxy:  home,
			ArtifactFolder:         filepath.Join(artifacts, "md-scale"),
			InfrastructureProvider: ptr.To(provider),
		}
	})
})

// holds asserts what upstream's own quick start asserts: owners and finalizers come back when they are taken away, and
// no object changes while nothing happens.
func holds(proxy framework.ClusterProxy, namespace, name string) {
	of := clusterctlcluster.FilterClusterObjectsWithNameFilter(name)
	owned := []owners{
		framework.CoreOwnerReferenceAssertion,
		framework.ExpOwnerReferenceAssertions,
		framework.DockerInfraOwnerReferenceAssertions(false),
		framework.KubeadmBootstrapOwnerReferenceAssertions,
		framework.KubeadmControlPlaneOwnerReferenceAssertions(false),
		framework.KubernetesReferenceAssertions,
	}
	By("Checking that owner references are resilient")
	framework.ValidateOwnerReferencesResilience(ctx, proxy, namespace, name, of, owned...)
	By("Checking that owner references are updated to the correct API version")
	framework.ValidateOwnerReferencesOnUpdate(ctx, proxy, namespace, name, of, owned...)
	By("Checking that finalizers are resilient")
	framework.ValidateFinalizersResilience(ctx, proxy, namespace, name, of,
		framework.CoreFinalizersAssertionWithLegacyClusters,
		framework.KubeadmControlPlaneFinalizersAssertion,
		framework.ExpFinalizersAssertion,
		finalizers,
	)
	By("Checking that resourceVersions are stable")
	framework.ValidateResourceVersionStable(ctx, framework.ValidateResourceVersionStableInput{
		ClusterProxy:             proxy,
		Namespace:                namespace,
		OwnerGraphFilterFunction: of,
		WaitToBecomeStable:       config.GetIntervals("quick-start", "wait-resource-versions-become-stable"),
		WaitToRemainStable:       config.GetIntervals("quick-start", "wait-resource-versions-remain-stable"),
	})
}
