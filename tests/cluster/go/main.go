// Command hyperkube is every component of the local cluster in one binary: the first argument names
// the component. They share nearly all of their code, so one link and one file replace eight.
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/coredns/coredns/coremain"
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"modelyard.dev/cluster/provisioner"
)

// A command is built only when it is asked for: building one has side effects on process-wide registries.
var components = map[string]func(){
	"etcd":                    func() { etcdmain.Main(os.Args) },
	"kube-apiserver":          run(func() *cobra.Command { return apiserver.NewAPIServerCommand() }),
	"kube-controller-manager": run(func() *cobra.Command { return controllers.NewControllerManagerCommand() }),
	"kube-scheduler":          run(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubelet":                 run(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kube-proxy":              run(func() *cobra.Command { return proxy.NewProxyCommand() }),
	"coredns":                 coremain.Run,
	"provisioner":             provisioner.Main,
}

func run(build func() *cobra.Command) func() {
	return func() { os.Exit(cli.Run(build())) }
}

func main() {
	if len(os.Args) > 1 {
		if component, known := components[os.Args[1]]; known {
			os.Args = os.Args[1:]
			component()
			return
		}
	}
	names := slices.Sorted(maps.Keys(components))
	fmt.Fprintln(os.Stderr, "usage: hyperkube COMPONENT [flags]; components:", strings.Join(names, ", "))
	os.Exit(2)
}
