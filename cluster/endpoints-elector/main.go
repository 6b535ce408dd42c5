// endpoints-elector elects a leader on an annotation of Endpoints, with the last client-go that supports this lock. The
// leader-elector sidecars of Kubernetes 1.2 to 1.23 used it, with these durations (10 s, 5 s, 2.5 s). It is a peer for tests.
//
// It prints "started leading", "stopped leading" and "the leader is NAME". Like these sidecars, it does not release the lock.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

func main() {
	identity := flag.String("id", "", "identity of this elector")
	namespace := flag.String("namespace", "default", "namespace of the Endpoints")
	name := flag.String("election", "", "name of the Endpoints")
	kubeconfig := flag.String("kubeconfig", "", "path of the kubeconfig")
	flag.Parse()
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
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	lock := &resourcelock.EndpointsLock{
		EndpointsMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Client:        client.CoreV1(),
		LockConfig:    resourcelock.ResourceLockConfig{Identity: identity},
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          lock,
		LeaseDuration: 10 * time.Second,
		RenewDeadline: 5 * time.Second,
		RetryPeriod:   2500 * time.Millisecond,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { fmt.Println("started leading") },
			OnStoppedLeading: func() { fmt.Println("stopped leading") },
			OnNewLeader:      func(leader string) { fmt.Println("the leader is " + leader) },
		},
	})
	if err != nil {
		return err
	}
	for {
		elector.Run(context.Background())
	}
}
