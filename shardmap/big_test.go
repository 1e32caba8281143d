package shardmap
import ("testing";"fmt";"time")
func TestBig(t *testing.T){
 for _,c:=range [][2]int{{512,30},{4096,100},{16384,300}}{
  var nodes []Weighted
  for i:=range c[1]+1 { nodes=append(nodes,Weighted{Node{ID:nodeID(i),Zone:fmt.Sprint(i%5)},1})}
  spec:=PlaceSpec{Shards:c[0],ReplicationFactor:3,Nodes:nodes[:c[1]]}
  st:=time.Now(); p,err:=Place(spec); d1:=time.Since(st); if err!=nil{t.Fatal(err)}
  spec.Nodes=nodes; st=time.Now(); q,err:=Replace(p,spec); if err!=nil{t.Fatal(err)}
  d2:=time.Since(st); spec.Nodes=nodes[1:]; st=time.Now(); _,err=Replace(q,spec); if err!=nil{t.Fatal(err)}
  fmt.Println(c,d1,d2,time.Since(st))
 }
 worst:=0.0
 for n:=3;n<=30;n++ { for _,s:=range []int{16,64,100,512}{ var nodes []Weighted
  for i:=range n { nodes=append(nodes,Weighted{Node{ID:nodeID(i*3+1)},1})}
  p,_:=Place(PlaceSpec{Shards:s,ReplicationFactor:3,Nodes:nodes}); l,_:=loadsOf(p); mx:=0; for _,v:=range l {mx=max(mx,v)}
  r:=float64(mx)*float64(n)/float64(3*s); if r>worst {worst=r; fmt.Println("max/mean",n,s,r)} } }
}
