"""One job, or many, on many machines: a driver hands out segments, workers on Ray make them.

cutting     which frames each segment has, from one pass over the packets
film        one job on its way: what is handed out, what came back, the journal
crew        what a driver asks of its workers
packing     small errands that travel together
driver      films and crew together, until all are joined
worker      what runs on the other machines
rays        a crew on Ray

Whatever dies, the journal names only segments that are whole and in order, so the same command,
here or on one machine alone, goes on to the same bytes.
"""
