// Package provisioner gives claims of the default StorageClass a folder on this machine, which its nodes share.
//
// A claim for one node at a time stays on the node that the scheduler has chosen for its first pod, where it has
// chosen one: a class that binds at once has no node to bind to.
//
// Kubernetes' own host-path provisioner makes folders only root may write to, and fsGroup does not apply to
// hostPath volumes. Pods of the restricted security level are never root, so folders here are open to all.
package provisioner

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
)

// Name is what a StorageClass writes as its provisioner.
const Name = "modelyard.dev/local-folder"

const provisionedBy = "pv.kubernetes.io/provisioned-by"

// The controller-manager writes this on a claim once it has found the class that the claim asks for.
const askedOf = "volume.kubernetes.io/storage-provisioner"

// The scheduler writes this on a claim of a class that waits for the first pod.
const selectedNode = "volume.kubernetes.io/selected-node"

type provisioner struct {
	client  kubernetes.Interface
	factory informers.SharedInformerFactory
	queue   workqueue.TypedRateLimitingInterface[key]
	root    string
}

type key struct{ namespace, name string } // a volume has no namespace

// Main runs until SIGTERM.
func Main() {
	flags := flag.NewFlagSet("provisioner", flag.ExitOnError) // the global one holds every component's flags
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	root := flags.String("root", "", "the folder that holds one folder a volume")
	_ = flags.Parse(os.Args[1:])
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		klog.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		klog.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[key](50*time.Millisecond, 30*time.Second)
	p := &provisioner{
		client:  client,
		factory: informers.NewSharedInformerFactory(client, 0),
		queue:   workqueue.NewTypedRateLimitingQueue(limiter),
		root:    *root,
	}
	if err := p.run(ctx); err != nil {
		klog.Fatal(err)
	}
}

func (p *provisioner) run(ctx context.Context) error {
	for _, informer := range []cache.SharedIndexInformer{
		p.factory.Core().V1().PersistentVolumeClaims().Informer(),
		p.factory.Core().V1().PersistentVolumes().Informer(),
	} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    p.enqueue,
			UpdateFunc: func(_, now any) { p.enqueue(now) },
		}); err != nil {
			return err
		}
	}
	p.factory.Storage().V1().StorageClasses().Informer()
	p.factory.Start(ctx.Done())
	p.factory.WaitForCacheSync(ctx.Done())
	go func() {
		<-ctx.Done()
		p.queue.ShutDown()
	}()
	for p.next(ctx) {
	}
	return nil
}

func (p *provisioner) enqueue(object any) {
	if o, ok := object.(meta.Object); ok {
		p.queue.Add(key{o.GetNamespace(), o.GetName()})
	}
}

func (p *provisioner) next(ctx context.Context) bool {
	k, stopped := p.queue.Get()
	if stopped {
		return false
	}
	defer p.queue.Done(k)
	var err error
	if k.namespace == "" {
		err = p.reclaim(ctx, k.name)
	} else {
		err = p.provision(ctx, k)
	}
	if err != nil {
		klog.ErrorS(err, "will try again", "namespace", k.namespace, "name", k.name)
		p.queue.AddRateLimited(k)
		return true
	}
	p.queue.Forget(k)
	return true
}

func (p *provisioner) provision(ctx context.Context, k key) error {
	claim, err := p.factory.Core().V1().PersistentVolumeClaims().Lister().PersistentVolumeClaims(k.namespace).Get(k.name)
	if errors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if claim.Annotations[askedOf] != Name || claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil {
		return nil
	}
	if mode := claim.Spec.VolumeMode; mode != nil && *mode != core.PersistentVolumeFilesystem {
		return fmt.Errorf("volumeMode %s is not supported: volumes are folders", *mode)
	}
	class, err := p.factory.Storage().V1().StorageClasses().Lister().Get(*claim.Spec.StorageClassName)
	if err != nil {
		return err
	}
	volume := p.volumeFor(claim, class)
	folder := volume.Spec.HostPath.Path
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(folder, 0o777); err != nil { // not reduced by the umask
		return err
	}
	_, err = p.client.CoreV1().PersistentVolumes().Create(ctx, volume, meta.CreateOptions{})
	if err == nil {
		klog.InfoS("provisioned", "claim", k.namespace+"/"+k.name, "folder", folder)
	}
	if errors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (p *provisioner) volumeFor(claim *core.PersistentVolumeClaim, class *storage.StorageClass) *core.PersistentVolume {
	name := "pvc-" + string(claim.UID)
	kind := core.HostPathDirectory
	policy := core.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{provisionedBy: Name}},
		Spec: core.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			PersistentVolumeReclaimPolicy: policy,
			NodeAffinity:                  affinityOf(claim),
			StorageClassName:              class.Name,
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: core.PersistentVolumeSource{
				HostPath: &core.HostPathVolumeSource{Path: filepath.Join(p.root, name), Type: &kind},
			},
		},
	}
}

func affinityOf(claim *core.PersistentVolumeClaim) *core.VolumeNodeAffinity {
	node := claim.Annotations[selectedNode]
	for _, mode := range claim.Spec.AccessModes {
		if mode == core.ReadWriteMany || mode == core.ReadOnlyMany {
			return nil
		}
	}
	if node == "" {
		return nil
	}
	host := core.NodeSelectorRequirement{Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{node}}
	term := core.NodeSelectorTerm{MatchExpressions: []core.NodeSelectorRequirement{host}}
	return &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{term}}}
}

func (p *provisioner) reclaim(ctx context.Context, name string) error {
	volume, err := p.factory.Core().V1().PersistentVolumes().Lister().Get(name)
	if errors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if volume.Annotations[provisionedBy] != Name || volume.Status.Phase != core.VolumeReleased ||
		volume.Spec.PersistentVolumeReclaimPolicy != core.PersistentVolumeReclaimDelete {
		return nil
	}
	// The path is made from the root and the name again: one edited by hand must not remove another folder.
	if err := os.RemoveAll(filepath.Join(p.root, filepath.Base(name))); err != nil {
		return err
	}
	err = p.client.CoreV1().PersistentVolumes().Delete(ctx, name, meta.DeleteOptions{})
	if errors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		klog.InfoS("removed", "volume", name)
	}
	return err
}
