// manager-elector runs a manager of controller-runtime without controllers, which elects a leader on a Lease as operators do. It
// is a peer for tests.
//
// It prints "elected" when it leads, and exits when it has lost the Lease. On SIGTERM it releases the Lease.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

func main() {
	// controller-runtime has a flag -kubeconfig of its own.
	flags := flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	identity := flags.String("id", "", "identity of this elector; default: that of controller-runtime, HOSTNAME_UUID")
	namespace := flags.String("namespace", "default", "namespace of the Lease")
	name := flags.String("lease", "", "name of the Lease")
	kubeconfig := flags.String("kubeconfig", "", "path of the kubeconfig")
	_ = flags.Parse(os.Args[1:])
	ctrl.SetLogger(klog.Background())
	if err := elect(*identity, *namespace, *name, *kubeconfig); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func elect(identity, namespace, name, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	options := manager.Options{
		LeaderElection:                true,
		LeaderElectionID:              name,
		LeaderElectionNamespace:       namespace,
		LeaderElectionReleaseOnCancel: true,
		Metrics:                       metricsserver.Options{BindAddress: "0"},
	}
	if identity != "" {
		// Several processes of one machine cannot have different host names.
		options.LeaderElectionResourceLockInterface, err = resourcelock.NewFromKubeconfig(
			resourcelock.LeasesResourceLock, namespace, name,
			resourcelock.ResourceLockConfig{Identity: identity}, config, 10*time.Second)
		if err != nil {
			return err
		}
	}
	replica, err := manager.New(config, options)
	if err != nil {
		return err
	}
	lead := manager.RunnableFunc(func(ctx context.Context) error {
		fmt.Println("elected")
		<-ctx.Done()
		return nil
	})
	if err := replica.Add(lead); err != nil {
		return err
	}
	return replica.Start(ctrl.SetupSignalHandler())
}
