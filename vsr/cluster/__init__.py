"""One job, or many, on many machines: a driver hands out segments, workers on Ray make them.

cutting     which frames each segment has, from one pass over the packets
film        one job on its way: what is handed out, what came back, the journal
aside       finished parts that wait for an earlier one
crew        what a driver asks of its workers
packing     small errands that travel together
driver      films and crew together, until all are joined
worker      what runs on the other machines
likeness    whether a worker's machine has the same source under the same name
shipping    brings sources to machines that do not see them, only what is needed
copies      such sources there
workdir     a place that all machines share, through which bytes may travel
rays        a crew on Ray
connecting  to its cluster
hands       one of its workers
telling     what is said of Ray's errors

Whatever dies, the journal names only segments that are whole and in order, so the same command,
here or on one machine alone, goes on to the same bytes.
"""
