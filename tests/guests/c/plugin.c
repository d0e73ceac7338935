#include "guests.h"

extern const st_type Lock_type, Semaphore_type, Event_type, Queue_type, dict_type;

ST_PLUGIN(&Lock_type, &Semaphore_type, &Event_type, &Queue_type, &dict_type);
